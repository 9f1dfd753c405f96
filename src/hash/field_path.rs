//! `FieldPath`: where in a JSON value something is, written as Kubernetes writes field paths.
//!
//! Depends on serde_json only. Errors of the hash and of template comparison carry one.

use std::fmt;

use serde_json::Value;

/// A path into a JSON value, such as `spec.containers[0].resources.limits[memory]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldPath(Vec<PathElement>);

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathElement {
    /// Into a field of an object of known shape.
    Field(String),
    /// Into an entry of a map.
    Key(String),
    /// Into an element of a list.
    Index(usize),
}

impl FieldPath {
    /// The steps from the root.
    #[must_use]
    pub fn elements(&self) -> &[PathElement] {
        &self.0
    }

    pub(crate) fn push(&mut self, element: PathElement) {
        self.0.push(element);
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    /// Takes out of `root` the field or map entry that the path leads to. An element of a list does not
    /// go alone, for what is left would mean something else (an argument less): the list goes. The empty
    /// path leaves null.
    pub fn remove_from(&self, root: &mut Value) {
        let is_list_element = |element: &PathElement| matches!(element, PathElement::Index(_));
        let Some(last) = self.0.iter().rposition(|element| !is_list_element(element)) else {
            *root = Value::Null;
            return;
        };
        let mut holder = root;
        for element in &self.0[..last] {
            let below = match element {
                PathElement::Field(name) | PathElement::Key(name) => holder.get_mut(name),
                PathElement::Index(index) => holder.get_mut(index),
            };
            let Some(below) = below else { return };
            holder = below;
        }
        if let (Some(map), PathElement::Field(name) | PathElement::Key(name)) =
            (holder.as_object_mut(), &self.0[last])
        {
            map.shift_remove(name);
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, element) in self.0.iter().enumerate() {
            match element {
                PathElement::Field(name) if position == 0 => f.write_str(name)?,
                PathElement::Field(name) => write!(f, ".{name}")?,
                PathElement::Key(key) => write!(f, "[{key}]")?,
                PathElement::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
