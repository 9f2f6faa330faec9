//! Pagination: [`ByCloud::items`] follows the markers, a page at a time, as its stream is read.

use std::collections::VecDeque;

use futures_util::stream::{self, Stream};

use serde::de::DeserializeOwned;

use super::http::Reply;
use super::{ByCloud, IamError, Method, Page, Paged};
use crate::upstream::list_limits::ListLimits;

/// The position in a list.
struct Position<M: Paged> {
    request: M,
    page: VecDeque<M::Item>,
    limits: ListLimits,
    is_last: bool,
}

impl ByCloud {
    /// Every item of a list. An error ends it, also if the list is longer than the limits or repeats a marker.
    pub fn items<M: Paged>(
        &self,
        request: M,
    ) -> impl Stream<Item = Result<M::Item, IamError>> + Send {
        let start = Position {
            request,
            page: VecDeque::new(),
            limits: ListLimits::default(),
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
                self.next_page(&mut at).await?;
            }
        })
    }

    /// The items of a list that comes on one page, within limits that it shares with other lists.
    pub(super) async fn whole_list<M, T>(
        &self,
        request: &M,
        limits: &mut ListLimits,
    ) -> Result<Vec<T>, IamError>
    where
        M: Method<Reply = Page<T>>,
        T: DeserializeOwned + Send,
    {
        let reply = self.send(request).await?;

        Ok(within(limits, M::ROUTE.name, reply)?.items)
    }

    async fn next_page<M: Paged>(&self, at: &mut Position<M>) -> Result<(), IamError> {
        let reply = self.send(&at.request).await?;
        let Page { items, next_marker } = within(&mut at.limits, M::ROUTE.name, reply)?;

        match next_marker {
            None => at.is_last = true,
            Some(marker) => {
                let added = at.limits.add_marker(marker.as_str());
                added.map_err(|why| IamError::List {
                    method: M::ROUTE.name,
                    why,
                })?;
                at.request.set_marker(marker);
            }
        }
        at.page = items.into();

        Ok(())
    }
}

/// The page of a reply, if the list is within the limits with it.
fn within<T>(
    limits: &mut ListLimits,
    method: &'static str,
    reply: Reply<Page<T>>,
) -> Result<Page<T>, IamError> {
    limits
        .add_page(reply.length, reply.value.items.len())
        .map_err(|why| IamError::List { method, why })?;

    Ok(reply.value)
}
