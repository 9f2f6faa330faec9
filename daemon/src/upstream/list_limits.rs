//! Limits of a whole list, whatever its pages are, for every kind of upstream. An upstream that is broken or hostile may
//! send pages without end.

use std::collections::HashSet;

use thiserror::Error;

use crate::text::printable;

const MAX_PAGES: usize = 1_000;
/// More than the sessions of all profiles that a daemon can have.
const MAX_ITEMS: usize = 100_000;
/// The bytes of all replies together.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What was read of a list, and how much may be read.
#[derive(Debug)]
pub(crate) struct ListLimits {
    pages: usize,
    items: usize,
    bytes: usize,
    max_bytes: usize,
    markers: HashSet<Box<str>>,
}

/// A list is not read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ListError {
    #[error("pagination loop (marker {0} repeated)")]
    Loop(String),
    #[error("the list has more than {max} {what}")]
    TooLong { max: usize, what: &'static str },
}

impl Default for ListLimits {
    fn default() -> Self {
        Self::with_max_bytes(MAX_BYTES)
    }
}

impl ListLimits {
    pub(crate) fn with_max_bytes(max_bytes: usize) -> Self {
        Self {
            pages: 0,
            items: 0,
            bytes: 0,
            max_bytes,
            markers: HashSet::new(),
        }
    }

    /// Must be called for each page.
    pub(crate) fn add_page(&mut self, bytes: usize, items: usize) -> Result<(), ListError> {
        self.pages += 1;
        self.items += items;
        self.bytes += bytes;

        within(self.pages, MAX_PAGES, "pages")?;
        within(self.items, MAX_ITEMS, "items")?;
        within(self.bytes, self.max_bytes, "bytes")
    }

    /// Must be called for the marker of each next page. One that was there before would be an endless loop.
    pub(crate) fn add_marker(&mut self, marker: &str) -> Result<(), ListError> {
        if self.markers.insert(marker.into()) {
            Ok(())
        } else {
            Err(ListError::Loop(printable(marker)))
        }
    }
}

fn within(count: usize, max: usize, what: &'static str) -> Result<(), ListError> {
    if count > max {
        return Err(ListError::TooLong { max, what });
    }

    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages_until_error(bytes: usize, items: usize) -> (usize, String) {
        let mut limits = ListLimits::default();
        for page in 1.. {
            if let Err(error) = limits.add_page(bytes, items) {
                return (page, error.to_string());
            }
        }
        unreachable!()
    }

    #[test]
    fn pages_items_and_bytes_of_a_list_are_limited() {
        for (bytes, items, page, what) in [
            (20, 0, 1_001, "1000 pages"),
            (20, 1_000, 101, "100000 items"),
            (8 << 20, 1, 9, "67108864 bytes"),
        ] {
            let error = format!("the list has more than {what}");
            assert_eq!(pages_until_error(bytes, items), (page, error));
        }
    }

    #[test]
    fn repeated_marker_is_an_error() {
        let mut limits = ListLimits::default();
        for marker in ["a", "b"] {
            limits.add_marker(marker).unwrap();
        }
        assert_eq!(limits.add_marker("a"), Err(ListError::Loop("a".into())));
    }
}
