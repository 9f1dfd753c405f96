//! SetRolloutImage: images of containers and init containers, by name.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::cluster::Change;
use super::super::convert::Fault;
use super::super::error::Error;
use super::super::mutation::Subject;
use super::Rollouts;
use super::change::{check, difference, durable, own_template};
use super::workload::Rewritten;
use crate::pb::v1;
use v1::set_rollout_image_request::ContainerImage;

/// Names every container.
const ALL: &str = "*";

/// The lists of a pod spec that hold containers.
const LISTS: [&str; 2] = ["initContainers", "containers"];

impl Rollouts {
    /// SetRolloutImage.
    pub(super) async fn set_image(
        &self,
        request: v1::SetRolloutImageRequest,
    ) -> Result<v1::SetRolloutImageResponse, Error> {
        check_images(&request.images)?;
        let rewritten = self.rewrite(durable!(request), |subject| set(subject, &request.images)).await?;
        let image = |ContainerImage { container, image }: &ContainerImage| format!("{container}={image}");
        let detail = request.images.iter().map(image).collect::<Vec<_>>().join(", ");
        let Rewritten { done, warnings, .. } = rewritten;
        let mut answer: v1::SetRolloutImageResponse = self.answer(&done, &detail);
        answer.warnings.extend(warnings);
        Ok(answer)
    }
}

/// Looks for mistakes in a request's images.
pub(super) fn check_images(images: &[ContainerImage]) -> Result<(), Error> {
    let mut faults = Vec::new();
    let mut named = BTreeSet::new();
    for (index, ContainerImage { container, image }) in images.iter().enumerate() {
        let field = |name: &str| format!("images[{index}].{name}");
        if container.is_empty() {
            faults.push(Fault::new(field("container"), "is required"));
        } else if !named.insert(container) {
            faults.push(Fault::new(field("container"), format!("{container:?} is named twice")));
        }
        if image.is_empty() {
            faults.push(Fault::new(field("image"), "is required"));
        } else if image.contains(char::is_whitespace) {
            faults.push(Fault::new(field("image"), format!("{image:?} contains white space")));
        }
    }
    if images.is_empty() {
        faults.push(Fault::new("images", "names no container"));
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::invalid(faults)) }
}

/// The change that sets images.
pub(super) fn set(subject: &Subject, images: &[ContainerImage]) -> Result<Option<Change>, Error> {
    own_template(subject)?;
    let mut object = subject.object.clone();
    let mut faults = Vec::new();
    for (index, ContainerImage { container, image }) in images.iter().enumerate() {
        let mut found = false;
        for list in LISTS {
            for item in containers_mut(&mut object, list) {
                if container == ALL || item["name"] == json!(container) {
                    found = true;
                    item["image"] = json!(image);
                }
            }
        }
        if !found {
            let known = known(&subject.object).join(", ");
            let description = format!("there is no container {container:?}; there are: {known}");
            faults.push(Fault::new(format!("images[{index}].container"), description));
        }
    }
    if !faults.is_empty() {
        return Err(Error::invalid(faults));
    }
    check(&object)?;
    Ok(difference(&subject.object, &object))
}

fn containers_mut<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    let items = object.pointer_mut(&format!("/spec/template/spec/{list}")).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter(|item| item.is_object())
}

/// The names of all containers, for an error.
fn known(object: &Value) -> Vec<&str> {
    let lists =
        LISTS.iter().filter_map(|list| object.pointer(&format!("/spec/template/spec/{list}"))?.as_array());
    lists.flatten().filter_map(|item| item["name"].as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject::new(json!({ "metadata": { "name": "web" }, "spec": {
            "selector": { "matchLabels": { "app": "web" } }, "strategy": { "canary": {} },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": {
                "initContainers": [{ "name": "init", "image": "init:1" }],
                "containers": [{ "name": "web", "image": "web:1" }, { "name": "side", "image": "side:1", "xUnknown": 1 }],
            } } } }))
    }

    fn image(container: &str, image: &str) -> ContainerImage {
        ContainerImage { container: container.to_owned(), image: image.to_owned() }
    }

    fn decided(images: &[ContainerImage]) -> Result<Option<Value>, Error> {
        let change = set(&subject(), images)?;
        Ok(change.map(|change| match change {
            Change::Json(patch) => serde_json::to_value(patch).unwrap(),
            other => unreachable!("images are written by a JSON patch, not {other:?}"),
        }))
    }

    #[test]
    fn images_are_set_by_name_and_by_star_and_only_where_they_differ() {
        let at = |path: &str, image: &str| json!({ "op": "replace", "path": format!("/spec/template/spec/{path}/image"), "value": image });
        assert_eq!(
            decided(&[image("web", "web:2"), image("init", "init:2")]).unwrap(),
            Some(json!([at("initContainers/0", "init:2"), at("containers/0", "web:2")]))
        );
        assert_eq!(
            decided(&[image("*", "web:1"), image("init", "init:1")]).unwrap(),
            Some(json!([at("containers/1", "web:1")]))
        );
        assert_eq!(decided(&[image("side", "side:1")]).unwrap(), None);
    }

    #[test]
    fn an_unknown_container_is_refused_with_those_that_there_are() {
        let error = decided(&[image("web", "web:2"), image("nope", "x")]).unwrap_err();
        assert_eq!(
            error.message(),
            "images[1].container: there is no container \"nope\"; there are: init, web, side"
        );
    }

    #[test]
    fn images_must_be_given_once_and_whole() {
        for images in [
            vec![],
            vec![image("", "x")],
            vec![image("a", "")],
            vec![image("a", "x y")],
            vec![image("a", "x"), image("a", "y")],
        ] {
            assert!(check_images(&images).is_err(), "{images:?}");
        }
    }
}
