//! The hosts of STS and IAM: for each partition, with FIPS, dual stack, or both. `tests/consumers` compares them with
//! botocore's endpoint rules.

use super::Endpoint;

/// A separate part of AWS, with accounts, identities and domains of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Partition {
    pub(crate) id: &'static str,
    /// Of hosts that are reached by IPv4.
    suffix: &'static str,
    /// Of hosts that are reached by IPv4 and IPv6.
    dual_stack_suffix: &'static str,
    /// IAM is global: requests to all of its hosts are signed for this region.
    iam_region: &'static str,
    /// The hosts of IAM: standard, dual stack, FIPS, both.
    iam: [&'static str; 4],
}

const PARTITIONS: [Partition; 8] = [
    Partition {
        id: "aws",
        suffix: "amazonaws.com",
        dual_stack_suffix: "api.aws",
        iam_region: "us-east-1",
        iam: [
            "iam.amazonaws.com",
            "iam.global.api.aws",
            "iam-fips.amazonaws.com",
            "iam-fips.global.api.aws",
        ],
    },
    Partition {
        id: "aws-cn",
        suffix: "amazonaws.com.cn",
        dual_stack_suffix: "api.amazonwebservices.com.cn",
        iam_region: "cn-north-1",
        iam: [
            "iam.cn-north-1.amazonaws.com.cn",
            "iam.global.api.amazonwebservices.com.cn",
            "iam-fips.amazonaws.com.cn",
            "iam-fips.api.amazonwebservices.com.cn",
        ],
    },
    Partition {
        id: "aws-us-gov",
        suffix: "amazonaws.com",
        dual_stack_suffix: "api.aws",
        iam_region: "us-gov-west-1",
        iam: [
            "iam.us-gov.amazonaws.com",
            "iam.us-gov.api.aws",
            "iam.us-gov.amazonaws.com",
            "iam.us-gov.api.aws",
        ],
    },
    Partition {
        id: "aws-eusc",
        suffix: "amazonaws.eu",
        dual_stack_suffix: "api.amazonwebservices.eu",
        iam_region: "eusc-de-east-1",
        iam: [
            "iam.eusc-de-east-1.amazonaws.eu",
            "iam.global.api.amazonwebservices.eu",
            "iam-fips.amazonaws.eu",
            "iam-fips.api.amazonwebservices.eu",
        ],
    },
    Partition {
        id: "aws-iso",
        suffix: "c2s.ic.gov",
        dual_stack_suffix: "api.aws.ic.gov",
        iam_region: "us-iso-east-1",
        iam: [
            "iam.us-iso-east-1.c2s.ic.gov",
            "iam.api.aws.ic.gov",
            "iam-fips.us-iso-east-1.c2s.ic.gov",
            "iam-fips.api.aws.ic.gov",
        ],
    },
    Partition {
        id: "aws-iso-b",
        suffix: "sc2s.sgov.gov",
        dual_stack_suffix: "api.aws.scloud",
        iam_region: "us-isob-east-1",
        iam: [
            "iam.us-isob-east-1.sc2s.sgov.gov",
            "iam.api.aws.scloud",
            "iam-fips.us-isob-east-1.sc2s.sgov.gov",
            "iam-fips.api.aws.scloud",
        ],
    },
    Partition {
        id: "aws-iso-e",
        suffix: "cloud.adc-e.uk",
        dual_stack_suffix: "api.cloud-aws.adc-e.uk",
        iam_region: "eu-isoe-west-1",
        iam: [
            "iam.eu-isoe-west-1.cloud.adc-e.uk",
            "iam.api.cloud-aws.adc-e.uk",
            "iam-fips.cloud.adc-e.uk",
            "iam-fips.api.cloud-aws.adc-e.uk",
        ],
    },
    Partition {
        id: "aws-iso-f",
        suffix: "csp.hci.ic.gov",
        dual_stack_suffix: "api.aws.hci.ic.gov",
        iam_region: "us-isof-south-1",
        iam: [
            "iam.us-isof-south-1.csp.hci.ic.gov",
            "iam.api.aws.hci.ic.gov",
            "iam-fips.csp.hci.ic.gov",
            "iam-fips.api.aws.hci.ic.gov",
        ],
    },
];

/// Which of a service's hosts are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Variant {
    pub fips: bool,
    pub dual_stack: bool,
}

impl Partition {
    /// The partition of a region, by the form of its name. A form that is not known is one of the standard partition's:
    /// that is where regions are added.
    pub fn of_region(region: &str) -> &'static Self {
        let [standard, others @ ..] = &PARTITIONS;
        let of_others = others.iter().find(|partition| {
            let prefix = match partition.id {
                "aws-cn" => "cn-",
                "aws-us-gov" => "us-gov-",
                "aws-eusc" => "eusc-",
                "aws-iso" => "us-iso-",
                "aws-iso-b" => "us-isob-",
                "aws-iso-e" => "eu-isoe-",
                _ => "us-isof-",
            };
            region.starts_with(prefix)
        });

        of_others.unwrap_or(standard)
    }

    /// The region that requests to IAM are signed for.
    pub fn iam_region(&self) -> &'static str {
        self.iam_region
    }

    /// # Errors
    /// When the name has not the form of a host.
    pub fn sts(&self, region: &str, variant: Variant) -> Result<Endpoint, String> {
        let service = match variant {
            Variant { fips: false, .. } => "sts",
            // Here, the standard hosts are FIPS hosts.
            Variant {
                dual_stack: false, ..
            } if self.id == "aws-us-gov" => "sts",
            Variant { fips: true, .. } => "sts-fips",
        };
        let suffix = match variant.dual_stack {
            true => self.dual_stack_suffix,
            false => self.suffix,
        };

        Endpoint::parse(&format!("https://{service}.{region}.{suffix}"))
    }

    /// # Errors
    /// Never for the hosts of the table.
    pub fn iam(&self, variant: Variant) -> Result<Endpoint, String> {
        let [standard, dual_stack, fips, both] = self.iam;
        let host = match (variant.fips, variant.dual_stack) {
            (false, false) => standard,
            (false, true) => dual_stack,
            (true, false) => fips,
            (true, true) => both,
        };

        Endpoint::parse(&format!("https://{host}"))
    }
}

/// Whether a text has the form of a region's name, such as `eu-central-1`. Names such as `aws-global` stand for hosts whose
/// sessions some regions refuse.
pub(crate) fn is_region(text: &str) -> bool {
    let mut parts = text.rsplit('-');
    let ends_in_number = parts
        .next()
        .is_some_and(|last| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()));
    let mut words = 0;
    let are_words = parts.all(|part| {
        words += 1;
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    });

    ends_in_number && are_words && words >= 2 && text.len() <= 40
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_has_words_and_a_number() {
        for good in [
            "eu-central-1",
            "us-gov-west-1",
            "eusc-de-east-1",
            "us-east-22",
        ] {
            assert!(is_region(good), "{good}");
        }
        for bad in [
            "",
            "aws-global",
            "eu-1",
            "eu-central",
            "EU-central-1",
            "eu-central-1a",
            "a.b-c-1",
            "eu--1",
        ] {
            assert!(!is_region(bad), "{bad}");
        }
    }

    #[test]
    fn every_host_is_an_endpoint() {
        for region in [
            "xx-new-1",
            "cn-north-1",
            "us-gov-east-1",
            "us-iso-west-1",
            "us-isob-east-1",
        ] {
            let partition = Partition::of_region(region);
            for (fips, dual_stack) in [(false, false), (false, true), (true, false), (true, true)] {
                let variant = Variant { fips, dual_stack };
                assert!(partition.sts(region, variant).is_ok() && partition.iam(variant).is_ok());
            }
        }
        assert_eq!(Partition::of_region("xx-new-1").id, "aws");
    }
}
