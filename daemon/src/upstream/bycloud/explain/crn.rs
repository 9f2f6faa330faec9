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

    // A part with a `*` before it matches all that it matches without, and all that a part with more before it does.
    let mut starts: Vec<_> = cuts
        .iter()
        .filter(|(before, _)| WildMatch::new(before).matches("crn:bycloud:iam:"))
        .collect();
    let last_star = starts.iter().rposition(|(_, after)| after.starts_with('*'));
    starts.drain(..last_star.unwrap_or(0));
    starts.retain(|(before, after)| after.starts_with('*') || !before.ends_with('*'));

    let mut ends: Vec<_> = cuts
        .iter()
        .filter(|(_, after)| WildMatch::new(after).matches(end))
        .collect();
    let first_star = ends.iter().position(|(before, _)| before.ends_with('*'));
    ends.truncate(first_star.map_or(ends.len(), |first| first + 1));
    ends.retain(|(before, after)| before.ends_with('*') || !after.starts_with('*'));

    starts
        .iter()
        .flat_map(|start| ends.iter().filter_map(|end| end.0.get(start.0.len()..)))
        .filter(|part| !part.is_empty() && !part.contains([':', '/']))
        .map(|part| part.replace("***", "*").replace("**", "*"))
        .collect()
}
