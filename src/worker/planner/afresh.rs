//! Fresh looks at objects whose cache entries do not show our own writes.

use super::{Attempt, Key, ObjectId, Planner};

impl Planner {
    /// The caches had time enough to show our own writes: the objects are read afresh.
    pub(super) fn look_afresh(&self, key: &Key, mut objects: Vec<ObjectId>) {
        let (memory, now) = (&self.shared.store.memory, self.shared.clock.now());
        let next_try = |object: &ObjectId| memory.next_try(key, &Attempt::Read(object.into()), now);
        if let Some(next) = objects.iter().filter_map(next_try).min() {
            self.shared.wake_at(key, next);
        }
        objects.retain(|object| next_try(object).is_none());
        if objects.is_empty() {
            return;
        }
        for object in &objects {
            self.shared.store.own.extend(object);
        }
        let (writer, shared, key) = (self.writer.clone(), self.shared(), key.clone());
        self.errands.spawn(async move {
            for object in objects {
                tracing::warn!(rollout = %key, ?object, "the cache does not tell what became of this object: reading afresh");
                let attempt = Attempt::Read((&object).into());
                match writer.refresh(&object).await {
                    Ok(()) => shared.store.memory.succeeded(&key, &attempt),
                    Err(error) => {
                        shared.store.own.expire(&object);
                        shared.unanswered(&key, attempt, error);
                    }
                }
            }
            shared.wake(&key);
        });
    }
}
