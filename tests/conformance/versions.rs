//! Every version of the objects of a kind, one after the other: one watch from a known version on, so that none is missed.

use std::fmt::Debug;

use futures::StreamExt;
use kube::api::{Api, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// Tells of every version after `from`, for ever: its number, the object's name, and the object unless it is gone.
pub async fn follow<K>(api: Api<K>, from: String, mut tell: impl FnMut(u64, String, Option<K>))
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut version = from;
    loop {
        let mut events = api.watch(&WatchParams::default(), &version).await.expect("it is watched").boxed();
        while let Some(Ok(event)) = events.next().await {
            let (object, is_there) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, true),
                WatchEvent::Deleted(object) => (object, false),
                WatchEvent::Bookmark(bookmark) => {
                    version = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) => panic!("versions were missed: {status:?}"),
            };
            version = object.resource_version().expect("objects have versions");
            tell(number(&object), object.name_any(), is_there.then_some(object));
        }
    }
}

/// The version of an object.
pub fn number(object: &impl ResourceExt) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).expect("versions are numbers")
}
