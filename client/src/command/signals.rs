//! The signals that this program may be sent.

/// Of these, the ones that whoever started this program does not have it ignore.
pub(super) fn heeded(signals: impl IntoIterator<Item = i32>) -> Vec<i32> {
    let ignored = std::fs::read_to_string("/proc/self/status").map_or(0, |status| ignored(&status));
    signals
        .into_iter()
        .filter(|signal| ignored >> (signal - 1) & 1 == 0)
        .collect()
}

/// Those that are ignored, one bit each, as Linux tells it of a process.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_and_a_shells_background_ignore_is_read() {
        assert_eq!(
            ignored("Name:\tx\nSigBlk:\t00000000000000ff\nSigIgn:\t0000000000001007\n"),
            0x1007
        );
        assert_eq!((ignored(""), ignored("SigIgn:\tnone")), (0, 0));
    }
}
