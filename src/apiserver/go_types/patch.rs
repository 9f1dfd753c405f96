//! How a strategic merge patch goes through the Go types: which lists it merges, and by which key.

use thiserror::Error;

use super::{GoType, Scalar, TABLE};

/// What becomes of a member that both the object and the patch have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// Objects are merged, lists replaced.
    #[default]
    Usual,
    Merge,
    Replace,
}

impl Strategy {
    /// Reads the tag of a field. `retainKeys` stands beside a strategy and means something to clients only: the server
    /// does what the patch's own `$retainKeys` says.
    pub(super) fn parse(tag: &str) -> Self {
        tag.split(',').fold(Self::Usual, |strategy, name| match name {
            "merge" => Self::Merge,
            "replace" => Self::Replace,
            _ => strategy,
        })
    }
}

/// A Go type, as a patch meets it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Schema {
    Struct(&'static str),
    Of(&'static GoType),
}

/// A member of a struct, or the items of a member that is a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) schema: Schema,
    pub(crate) strategy: Strategy,
    /// The member by which items of a list are told apart; empty for lists of scalars and those that are replaced.
    pub(crate) key: &'static str,
}

/// A patch that goes where the type does not.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum SchemaError {
    #[error("unable to find api field in struct {owner} for the json field {field:?}")]
    UnknownField { owner: String, field: String },
    #[error("merging an object in json but data type is not struct, instead is: {0}")]
    NoStruct(&'static str),
    #[error("expected slice or array type, but got: {0}")]
    NoList(&'static str),
}

impl Schema {
    /// The kind of the type, as Go's `reflect` names it.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Struct(_) => "struct",
            Self::Of(go_type) => go_type.kind(),
        }
    }

    /// A member that is an object.
    pub(crate) fn member(self, name: &str) -> Result<Member, SchemaError> {
        let inner = match self {
            Self::Of(GoType::Pointer(inner)) => Self::Of(inner),
            other => other,
        };
        let unknown = |owner: &str| {
            let owner = owner.rsplit('.').next().unwrap_or_default().to_owned();
            SchemaError::UnknownField { owner, field: name.to_owned() }
        };
        let owner = match inner {
            Self::Struct(owner) => owner,
            Self::Of(GoType::Struct(owner)) => owner.as_str(),
            // Structs that write themselves: Go sees no field with a JSON name.
            Self::Of(GoType::Scalar(Scalar::Any)) => return Err(unknown("RawExtension")),
            Self::Of(GoType::Scalar(Scalar::SchemaUnion)) => return Err(unknown("JSONSchemaPropsOrArray")),
            other => return Err(SchemaError::NoStruct(other.kind())),
        };
        let field = TABLE.get(owner).into_iter().flatten().find(|field| field.name == name);
        let field = field.ok_or_else(|| unknown(owner))?;
        Ok(Member { schema: Self::Of(&field.go_type), strategy: field.strategy, key: &field.key })
    }

    /// The items of a member that is a list.
    pub(crate) fn items(self, name: &str) -> Result<Member, SchemaError> {
        let member = self.member(name)?;
        let items = match member.schema {
            Self::Of(GoType::Slice(items)) => items,
            Self::Of(GoType::Pointer(inner)) => match &**inner {
                GoType::Slice(items) => items,
                _ => inner,
            },
            _ => return Err(SchemaError::NoList(self.kind())),
        };
        Ok(Member { schema: Self::Of(items), ..member })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Schema = Schema::Struct("io.k8s.api.core.v1.Pod");

    #[test]
    fn the_table_says_how_lists_are_merged() {
        let spec = POD.member("spec").unwrap().schema;
        let containers = spec.items("containers").unwrap();
        assert_eq!((containers.strategy, containers.key), (Strategy::Merge, "name"));
        assert_eq!(containers.schema.items("ports").unwrap().key, "containerPort");
        assert_eq!(spec.items("volumes").unwrap().strategy, Strategy::Merge);
        assert_eq!(spec.items("tolerations").unwrap().strategy, Strategy::Usual);
        let budget =
            Schema::Struct("io.k8s.api.policy.v1.PodDisruptionBudget").member("spec").unwrap().schema;
        assert_eq!(budget.member("selector").unwrap().strategy, Strategy::Replace);
    }

    #[test]
    fn where_the_type_ends_a_patch_ends() {
        let labels = POD.member("metadata").unwrap().schema.member("labels").unwrap().schema;
        let errors = [
            POD.member("nope").unwrap_err().to_string(),
            labels.member("a").unwrap_err().to_string(),
            POD.items("spec").unwrap_err().to_string(),
        ];
        assert_eq!(
            errors,
            [
                "unable to find api field in struct Pod for the json field \"nope\"",
                "merging an object in json but data type is not struct, instead is: map",
                "expected slice or array type, but got: struct",
            ]
        );
    }
}
