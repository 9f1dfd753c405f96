//! GetRollout and ListRollouts, from the cache.

use super::super::convert::Record;
use super::super::error::Error;
use super::super::kind::ROLLOUT;
use super::super::name;
use super::super::not_yet;
use super::super::page::Page;
use super::super::selector::Selector;
use super::Rollouts;
use crate::pb::v1;
use crate::store::Key;

/// How many rollouts are looked at in one go while a page is filled from those that a selector selects.
const BATCH: usize = 256;

impl Rollouts {
    /// GetRollout.
    pub(super) fn get(&self, request: &v1::GetRolloutRequest) -> Result<v1::GetRolloutResponse, Error> {
        not_yet::fields(&[("at_least", !request.at_least.is_empty())])?;
        let key = name::rollout(&request.name, "name")?;
        let view = view(request.view, v1::View::Full)?;
        self.context.require_ready()?;
        let record = self.context.store.rollouts.get(&key);
        let record = record.ok_or_else(|| Error::not_found(ROLLOUT.named(&key.namespace, &key.name)))?;
        Ok(v1::GetRolloutResponse { rollout: Some(Record::from(&*record).show(view)) })
    }

    /// ListRollouts.
    pub(super) fn list(&self, request: &v1::ListRolloutsRequest) -> Result<v1::ListRolloutsResponse, Error> {
        let unfinished = [("filter", !request.filter.is_empty()), ("at_least", !request.at_least.is_empty())];
        not_yet::fields(&unfinished)?;
        let span = name::span(&request.parent, "parent")?;
        let selector = Selector::parse(&request.label_selector)?;
        let view = view(request.view, v1::View::Basic)?;
        let binding = [request.parent.as_str(), &request.label_selector, view.as_str_name()];
        let page = Page::read(request.page_size, &request.page_token, &binding)?;
        self.context.require_ready()?;

        // One more than is shown tells whether there is a next page.
        let mut found = Vec::new();
        let mut after = page.after.clone();
        while found.len() <= page.size {
            let batch = self.context.store.rollouts.page(span.namespace(), after.as_ref(), BATCH);
            let Some(last) = batch.last() else { break };
            after = Some(Key::of(&**last));
            found.extend(
                batch
                    .into_iter()
                    .filter(|record| selector.matches(kube::Resource::meta(&**record).labels.as_ref())),
            );
        }
        let shown = &found[..found.len().min(page.size)];
        let last = shown.last().map(|record| Key::of(&**record));
        Ok(v1::ListRolloutsResponse {
            rollouts: shown.iter().map(|record| Record::from(&**record).show(view)).collect(),
            next_page_token: page.next(found.len(), last.as_ref()),
        })
    }
}

/// The view of a request; `default` when it does not say.
pub(super) fn view(given: i32, default: v1::View) -> Result<v1::View, Error> {
    match v1::View::try_from(given) {
        Ok(v1::View::Unspecified) => Ok(default),
        Ok(view) => Ok(view),
        Err(_) => Err(Error::field("view", format!("{given} is no view that this server knows"))),
    }
}
