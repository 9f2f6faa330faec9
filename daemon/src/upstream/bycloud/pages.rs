//! Pagination: [`ByCloud::items`] follows the markers, a page at a time, as its stream is read.

use std::collections::{HashSet, VecDeque};

use futures_util::stream::{self, Stream};

use super::{ByCloud, IamError, Marker, Page, Paged};
use crate::text::printable;

/// The position in a list.
struct Position<M: Paged> {
    request: M,
    page: VecDeque<M::Item>,
    seen: HashSet<Marker>,
    is_last: bool,
}

impl ByCloud {
    /// Every item of a list. An error ends it, and so does a repeated marker, which would be an endless loop.
    pub fn items<M: Paged>(
        &self,
        request: M,
    ) -> impl Stream<Item = Result<M::Item, IamError>> + Send {
        let start = Position {
            request,
            page: VecDeque::new(),
            seen: HashSet::new(),
            is_last: false,
        };

        stream::try_unfold(start, move |mut at| async move {
            loop {
                if let Some(item) = at.page.pop_front() {
                    return Ok(Some((item, at)));
                }
                if at.is_last {
                    return Ok(None);
                }
                let Page { items, next_marker } = self.send(&at.request).await?.value;
                at.page = items.into();
                match next_marker {
                    None => at.is_last = true,
                    Some(marker) if !at.seen.insert(marker.clone()) => {
                        return Err(IamError::Loop {
                            method: M::ROUTE.name,
                            marker: printable(marker.as_str()),
                        });
                    }
                    Some(marker) => at.request.set_marker(marker),
                }
            }
        })
    }
}
