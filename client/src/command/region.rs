//! The region of `exec` and `env`: what the user says is used before the profile's configuration.

use rolekeeper::protocol::is_name;

/// botocore reads only the second, other SDKs the first.
pub(super) const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// The region that rolekeeper has set itself. Another value of [`REGIONS`] is the user's.
pub(super) const OWN_REGION: &str = "ROLEKEEPER_REGION";

/// Parses the value of `--region`.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.into());
    }
    Err("a region is a name such as eu-central-1".into())
}

/// The regions that an option and the profile's configuration name.
pub(super) struct Region<'a> {
    pub(super) option: Option<&'a str>,
    pub(super) configured: Option<&'a str>,
}

impl Region<'_> {
    /// The variables to set. The option is used first, then variables of the user, then the configuration. The second result
    /// says which is used, if that is not the configured region.
    pub(super) fn variables(
        &self,
        profile: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> (Vec<(&'static str, String)>, Option<String>) {
        let own = variable(OWN_REGION);
        let explicit: Vec<_> = REGIONS
            .into_iter()
            .filter_map(|name| Some((name, variable(name)?)))
            .filter(|(_, value)| Some(value) != own.as_ref())
            .collect();
        let notice = |used: &str| {
            let configured = self.configured?;
            Some(format!(
                "{used} is used instead of {configured}, the region of profile {profile}"
            ))
        };
        let both = |region: &str| REGIONS.map(|name| (name, region.to_owned()));

        match (self.option, explicit.first(), self.configured) {
            (Some(option), _, configured) => {
                let differs = configured.is_some_and(|region| region != option);
                let notice = notice(&format!("--region {option}")).filter(|_| differs);
                (both(option).into(), notice)
            }
            (None, Some((_, region)), configured) => {
                let mut set = Vec::from(both(region));
                let is_explicit = |name: &str| explicit.iter().any(|(each, _)| *each == name);
                let is_own = |name: &str| own.is_some() && variable(name) == own;
                set.retain(|(name, _)| {
                    !is_explicit(name) && (configured.is_some() || is_own(name))
                });

                let differs = |(_, value): &&(&str, String)| Some(value.as_str()) != configured;
                let used: Vec<_> = explicit
                    .iter()
                    .filter(differs)
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                let notice = notice(&used.join(" ")).filter(|_| !used.is_empty());
                (set, notice)
            }
            (None, None, Some(configured)) => {
                let mut set = Vec::from(both(configured));
                set.push((OWN_REGION, configured.to_owned()));
                (set, None)
            }
            (None, None, None) => (Vec::new(), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_of_the_user_is_used_before_that_of_the_profile() {
        type Case<'a> = (
            [Option<&'a str>; 3],
            Option<&'a str>,
            Option<&'a str>,
            &'a str,
            &'a str,
        );
        // AWS_REGION, AWS_DEFAULT_REGION, ROLEKEEPER_REGION; option; configuration; variables to set; notice.
        let cases: [Case<'_>; 11] = [
            ([None; 3], None, None, "", ""),
            ([None; 3], None, Some("eu"), "R=eu D=eu O=eu", ""),
            ([Some("us"), None, None], None, None, "", ""),
            (
                [Some("us"), None, None],
                None,
                Some("eu"),
                "D=us",
                "AWS_REGION=us",
            ),
            (
                [None, Some("us"), None],
                None,
                Some("eu"),
                "R=us",
                "AWS_DEFAULT_REGION=us",
            ),
            (
                [Some("eu"), Some("us"), None],
                None,
                Some("eu"),
                "",
                "AWS_DEFAULT_REGION=us",
            ),
            ([Some("eu"), None, None], None, Some("eu"), "D=eu", ""),
            (
                [Some("us"), None, None],
                Some("ap"),
                Some("eu"),
                "R=ap D=ap",
                "--region ap",
            ),
            ([None; 3], Some("eu"), Some("eu"), "R=eu D=eu", ""),
            (
                [Some("a"), Some("a"), Some("a")],
                None,
                Some("eu"),
                "R=eu D=eu O=eu",
                "",
            ),
            ([Some("us"), Some("a"), Some("a")], None, None, "D=us", ""),
        ];
        for (variables, option, configured, want, notice) in cases {
            let names = ["AWS_REGION", "AWS_DEFAULT_REGION", OWN_REGION];
            let variable = |name: &str| {
                let at = names.iter().position(|each| *each == name)?;
                variables[at].map(str::to_owned)
            };
            let (set, said) = Region { option, configured }.variables("dev", variable);
            let letter =
                |name: &str| ["R", "D", "O"][names.iter().position(|n| *n == name).unwrap()];
            let set: Vec<_> = set
                .iter()
                .map(|(name, value)| format!("{}={value}", letter(name)))
                .collect();
            let case = (variables, option, configured);
            assert_eq!(set.join(" "), want, "{case:?}");
            let said_want = match notice {
                "" => None,
                used => Some(format!(
                    "{used} is used instead of eu, the region of profile dev"
                )),
            };
            assert_eq!(said, said_want, "{case:?}");
        }
    }
}
