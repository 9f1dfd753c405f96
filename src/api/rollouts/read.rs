//! GetRollout and ListRollouts, from the cache.

use prost::Message as _;

use super::super::convert::Record;
use super::super::error::Error;
use super::super::kind::ROLLOUT;
use super::super::name;
use super::super::page::Page;
use super::super::selection::Selection;
use super::Rollouts;
use crate::pb::v1;
use crate::store::Key;

/// How many rollouts are looked at in one go while a page is filled from those that a selector selects.
const BATCH: usize = 256;

/// How much a page may weigh. Clients of gRPC take 4 MiB unless they are told otherwise; a page may be shorter than asked for
/// (AIP-158).
const PAGE_BYTES: usize = 2 * 1024 * 1024;

impl Rollouts {
    /// GetRollout.
    pub(super) async fn get(&self, request: &v1::GetRolloutRequest) -> Result<v1::GetRolloutResponse, Error> {
        let key = name::rollout(&request.name, "name")?;
        let view = view(request.view, v1::View::Full)?;
        self.context.require_ready()?;
        self.context.reach(&request.at_least).await?;
        let record = self.context.store.rollouts.get(&key);
        let record = record.ok_or_else(|| Error::not_found(ROLLOUT.named(&key.namespace, &key.name)))?;
        Ok(v1::GetRolloutResponse { rollout: Some(Record::from(&*record).show(view)) })
    }

    /// ListRollouts.
    pub(super) async fn list(
        &self,
        request: &v1::ListRolloutsRequest,
    ) -> Result<v1::ListRolloutsResponse, Error> {
        let span = name::span(&request.parent, "parent")?;
        let selection = Selection::parse(span.clone(), &request.label_selector, &request.filter)?;
        let view = view(request.view, v1::View::Basic)?;
        let (selector, filter) = (&request.label_selector, &request.filter);
        let binding = [&request.parent, selector, filter, view.as_str_name()];
        let page = Page::read(request.page_size, &request.page_token, &binding)?;
        self.context.require_ready()?;
        self.context.reach(&request.at_least).await?;

        // One more than is shown tells whether there is a next page.
        let mut found = Vec::new();
        let mut after = page.after.clone();
        while found.len() <= page.size {
            let batch = self.context.store.rollouts.page(span.namespace(), after.as_ref(), BATCH);
            let Some(last) = batch.last() else { break };
            after = Some(Key::of(&**last));
            found.extend(batch.into_iter().filter(|record| selection.selects(record)));
        }
        let rollouts = fill(found.iter().take(page.size).map(|record| Record::from(&**record).show(view)));
        let last = rollouts.len().checked_sub(1).and_then(|last| found.get(last));
        let last = last.map(|record| Key::of(&**record));
        let next_page_token = page.next(found.len(), rollouts.len(), last.as_ref());
        Ok(v1::ListRolloutsResponse { rollouts, next_page_token })
    }
}

/// As many as a page may weigh, and one at least.
fn fill(rollouts: impl Iterator<Item = v1::Rollout>) -> Vec<v1::Rollout> {
    let mut page = Vec::new();
    let mut bytes = 0;
    for rollout in rollouts {
        bytes += rollout.encoded_len();
        if bytes > PAGE_BYTES && !page.is_empty() {
            break;
        }
        page.push(rollout);
    }
    page
}

/// The view of a request; `default` when it does not say.
pub(super) fn view(given: i32, default: v1::View) -> Result<v1::View, Error> {
    match v1::View::try_from(given) {
        Ok(v1::View::Unspecified) => Ok(default),
        Ok(view) => Ok(view),
        Err(_) => Err(Error::field("view", format!("{given} is no view that this server knows"))),
    }
}
