//! Signals that this program handles.

/// Those signals that this program's parent has not set to be ignored.
pub(super) fn not_ignored(signals: impl IntoIterator<Item = i32>) -> Vec<i32> {
    let ignored = std::fs::read_to_string("/proc/self/status").map_or(0, |status| ignored(&status));
    signals
        .into_iter()
        .filter(|signal| ignored >> (signal - 1) & 1 == 0)
        .collect()
}

/// The mask of ignored signals from `/proc/self/status`: bit 0 is signal 1.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_of_ignored_signals_is_read() {
        assert_eq!(
            ignored("Name:\tx\nSigBlk:\t00000000000000ff\nSigIgn:\t0000000000001007\n"),
            0x1007
        );
        assert_eq!((ignored(""), ignored("SigIgn:\tnone")), (0, 0));
    }
}
