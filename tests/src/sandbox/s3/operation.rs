//! The supported operations of S3 and STS.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    ListObjectsV2,
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    GetCallerIdentity,
}

impl Operation {
    /// The name in the request log and in the audit log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ListBuckets => "listBuckets",
            Self::CreateBucket => "createBucket",
            Self::HeadBucket => "headBucket",
            Self::DeleteBucket => "deleteBucket",
            Self::ListObjectsV2 => "listObjectsV2",
            Self::PutObject => "putObject",
            Self::GetObject => "getObject",
            Self::HeadObject => "headObject",
            Self::DeleteObject => "deleteObject",
            Self::GetCallerIdentity => "getCallerIdentity",
        }
    }

    pub(super) fn service(self) -> &'static str {
        if self == Self::GetCallerIdentity {
            "sts"
        } else {
            "s3"
        }
    }

    /// The action that a policy must allow. `None` if the signature is enough.
    pub(super) fn action(self) -> Option<&'static str> {
        Some(match self {
            Self::ListBuckets => "s3:ListAllMyBuckets",
            Self::CreateBucket => "s3:CreateBucket",
            Self::HeadBucket | Self::ListObjectsV2 => "s3:ListBucket",
            Self::DeleteBucket => "s3:DeleteBucket",
            Self::PutObject => "s3:PutObject",
            Self::GetObject | Self::HeadObject => "s3:GetObject",
            Self::DeleteObject => "s3:DeleteObject",
            Self::GetCallerIdentity => return None,
        })
    }

    /// The supported parameters of the query, besides those of a presigned URL.
    pub(super) fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::ListObjectsV2 => &[
                "list-type",
                "prefix",
                "delimiter",
                "max-keys",
                "continuation-token",
                "start-after",
                "encoding-type",
                "fetch-owner",
            ],
            Self::GetCallerIdentity => &["Action", "Version"],
            _ => &[],
        }
    }
}
