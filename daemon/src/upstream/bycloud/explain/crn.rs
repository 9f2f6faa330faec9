//! Whether a CRN pattern (A9) matches an account or a role. Pure.
//!
//! No reply of the API names the organisation, which is a part of every CRN. A pattern that names one matches under that
//! condition. What a pattern matches under no single condition, or by a name that could not be read, is uncertain.

use std::collections::BTreeSet;

use wildmatch::WildMatch;

/// The longest pattern that is searched for an organisation, in bytes: no CRN is as long.
const LONGEST_PATTERN: usize = 512;
/// The most candidates for the organisation that are compared with each other.
const MAX_CANDIDATES: usize = 16;

/// An account or a role, with all names that a CRN can have for it (A9).
#[derive(Debug, Clone)]
pub struct Entity {
    /// `role`, `user`, `service-account`
    pub kind: &'static str,
    /// Its id, its name, an address.
    pub names: Vec<String>,
    /// Whether these are all of its names.
    pub is_complete: bool,
    /// Absent if it is not known.
    pub organization: Option<String>,
}

/// Whether a pattern, or a statement, matches.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Match {
    Yes,
    /// If the organisation matches this pattern.
    IfOrganization(String),
    Uncertain,
    No,
}

impl Match {
    /// From certain to none.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::IfOrganization(_) => 1,
            Self::Uncertain => 2,
            Self::No => 3,
        }
    }
}

impl Entity {
    pub(super) fn matches(&self, pattern: &str) -> Match {
        if let Some(organization) = &self.organization {
            return if self.matches_in(organization, pattern) {
                Match::Yes
            } else {
                self.no_match()
            };
        }

        // Two names that no organisation has, of different lengths.
        if self.matches_in("\u{fffd}", pattern) && self.matches_in("\u{fffd}\u{fffd}", pattern) {
            return Match::Yes;
        }
        if pattern.len() > LONGEST_PATTERN {
            return Match::Uncertain;
        }

        let candidates: BTreeSet<_> = self
            .names
            .iter()
            .map(|name| format!(":{}/{name}", self.kind))
            .flat_map(|end| organizations_in(pattern, &end))
            .collect();
        if candidates.is_empty() {
            return self.no_match();
        }
        if candidates.len() > MAX_CANDIDATES {
            return Match::Uncertain;
        }

        let widest = candidates
            .iter()
            .find(|wide| candidates.iter().all(|other| covers(wide, other)));
        widest.map_or(Match::Uncertain, |widest| {
            Match::IfOrganization(widest.clone())
        })
    }

    fn matches_in(&self, organization: &str, pattern: &str) -> bool {
        let glob = WildMatch::new(pattern);
        let kind = self.kind;

        self.names
            .iter()
            .any(|name| glob.matches(&format!("crn:bycloud:iam:{organization}:{kind}/{name}")))
    }

    /// The pattern may match a name that is not known.
    fn no_match(&self) -> Match {
        if self.is_complete {
            Match::No
        } else {
            Match::Uncertain
        }
    }
}

/// Whether one pattern matches everything that the other matches, as far as can be seen from the shortest and from a long
/// text for each `*`.
fn covers(wide: &str, narrow: &str) -> bool {
    let glob = WildMatch::new(wide);

    [0, wide.len() + 1]
        .iter()
        .all(|count| glob.matches(&narrow.replace('*', &"\u{fffd}".repeat(*count))))
}

/// The parts of a pattern of which one must match the organisation, so that the pattern matches a CRN with this end.
fn organizations_in(pattern: &str, end: &str) -> Vec<String> {
    // A `*` may end the part before the organisation, be the organisation, and start the part after it.
    let pattern = pattern.replace('*', "***");
    let cuts: Vec<_> = (0..=pattern.len())
        .filter_map(|at| pattern.split_at_checked(at))
        .collect();
    let fits = |part: &str, text| WildMatch::new(part).matches(text);
    let star = |text: &str| text.starts_with('*');
    let star_ends = |text: &str| text.ends_with('*');

    let mut begins: Vec<_> = cuts
        .iter()
        .filter(|(before, _)| fits(before, "crn:bycloud:iam:"))
        .collect();
    let mut ends: Vec<_> = cuts.iter().filter(|(_, after)| fits(after, end)).collect();
    // A part with a `*` before it matches all that it matches without, and all that a part with more before it does.
    begins.drain(
        ..begins
            .iter()
            .rposition(|(_, after)| star(after))
            .unwrap_or(0),
    );
    begins.retain(|(before, after)| star(after) || !star_ends(before));
    ends.truncate(
        ends.iter()
            .position(|(before, _)| star_ends(before))
            .map_or(ends.len(), |first| first + 1),
    );
    ends.retain(|(before, after)| star_ends(before) || !star(after));
    let parts = begins
        .iter()
        .flat_map(|begin| ends.iter().filter_map(|end| end.0.get(begin.0.len()..)));
    let organizations = parts.filter(|part| !part.is_empty() && !part.contains([':', '/']));
    organizations
        .map(|part| part.replace("***", "*").replace("**", "*"))
        .collect()
}
