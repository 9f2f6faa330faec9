//! Which records remain when there are too many. Each user has an equal share, and what one does not need is for the others:
//! no user can push out the records of another.

use std::collections::BTreeMap;

/// The user of a record. Those without a caller have a share of their own.
pub(super) type Owner = Option<u32>;

/// Whether each record remains, so that their sizes are `budget` at most. `records` are the owner and the size of each,
/// the oldest first.
pub(super) fn retained(records: &[(Owner, usize)], budget: usize) -> Vec<bool> {
    let mut left = shares(records, budget);
    let mut retained = vec![false; records.len()];

    // The newest first.
    for (is_retained, (owner, size)) in retained.iter_mut().zip(records).rev() {
        let left = left.entry(*owner).or_default();
        *is_retained = *size <= *left;
        // Nothing older than a dropped record remains.
        *left = if *is_retained { *left - size } else { 0 };
    }

    retained
}

/// The smallest owners first: what they leave is for the others.
fn shares(records: &[(Owner, usize)], mut budget: usize) -> BTreeMap<Owner, usize> {
    let mut sizes: BTreeMap<Owner, usize> = BTreeMap::new();
    for (owner, size) in records {
        *sizes.entry(*owner).or_default() += size;
    }

    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_unstable_by_key(|(_, size)| *size);

    let mut owners = sizes.len();
    let mut shares = BTreeMap::new();
    for (owner, size) in sizes {
        let share = size.min(budget / owners);
        shares.insert(owner, share);
        budget -= share;
        owners -= 1;
    }

    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many records of each user remain, of so many that are each of size 1.
    fn remaining<const USERS: usize>(counts: [usize; USERS], budget: usize) -> [usize; USERS] {
        let mut records = Vec::new();
        for (user, count) in (0..).zip(counts) {
            records.extend(std::iter::repeat_n((Some(user), 1), count));
        }

        let retained = retained(&records, budget);
        let mut remaining = [0; USERS];
        for ((user, _), _) in records.iter().zip(retained).filter(|(_, kept)| *kept) {
            remaining[user.unwrap() as usize] += 1;
        }
        remaining
    }

    #[test]
    fn no_user_pushes_out_the_records_of_another() {
        assert_eq!(remaining([100], 10), [10]);
        assert_eq!(remaining([5, 100_000], 10), [5, 5]);
        assert_eq!(remaining([2, 3, 100_000], 30), [2, 3, 25]);
        assert_eq!(remaining([100, 1, 100_000], 31), [15, 1, 15]);
        assert_eq!(remaining([2, 3], 10), [2, 3]);
        assert!(retained(&[], 10).is_empty());
    }

    #[test]
    fn the_newest_records_of_a_user_remain() {
        let records = [(None, 1), (None, 9), (None, 4), (Some(7), 1), (None, 4)];
        let want = [false, false, true, true, true];
        assert_eq!(retained(&records, 10), want, "1 is older than 9");
    }
}
