//! Tables: what `kubectl get` prints.
//!
//! Depends on nothing of the server but [`super::object`]. A kind gives its columns and the cells of an object;
//! [`super::present`] asks for a table when the client accepts one.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::object::Object;

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// OpenAPI type of its cells.
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    /// 0 for columns that are always shown; higher ones only with `-o wide`.
    pub(crate) priority: i64,
}

impl Column {
    /// A column that is always shown.
    pub(crate) fn new(name: &str, kind: &str, description: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            format: String::new(),
            description: description.to_owned(),
            priority: 0,
        }
    }

    /// The name of the object, by which kubectl knows a row.
    pub(crate) fn name() -> Self {
        let mut column = Self::new("Name", "string", "Name must be unique within a namespace.");
        "name".clone_into(&mut column.format);
        column
    }

    /// How long ago the object was created.
    pub(crate) fn age() -> Self {
        Self::new("Age", "string", "CreationTimestamp is the time when the object was created.")
    }

    /// The same column, shown with `-o wide` only.
    pub(crate) fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    fn to_json(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority})
    }
}

/// How much of each object a table carries beside its cells (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// A table of rows made by [`row`]; `metadata` is that of the list.
pub(crate) fn table(columns: &[Column], rows: &[Value], metadata: &Value) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns.iter().map(Column::to_json).collect::<Vec<_>>(),
        "rows": rows,
    })
}

/// The row of one object.
pub(crate) fn row(object: &Value, cells: &[Value], include: Include) -> Value {
    match include {
        Include::None => json!({"cells": cells}),
        Include::Metadata => json!({"cells": cells, "object": partial(object)}),
        Include::Object => json!({"cells": cells, "object": object}),
    }
}

/// The object without anything but its metadata.
pub(crate) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// The age of an object.
pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    since(object.text("/metadata/creationTimestamp"), now)
}

/// How long ago a moment in RFC 3339 was; `<unknown>` if it is none.
pub(crate) fn since(moment: &str, now: Timestamp) -> Value {
    match moment.parse::<Timestamp>() {
        Ok(moment) => json!(human_duration(now.duration_since(moment).as_secs())),
        Err(_) => json!("<unknown>"),
    }
}

/// Seconds as people read them: three significant digits at most (apimachinery's `duration.HumanDuration`).
pub(crate) fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let pair = |whole: i64, unit: &str, rest: i64, small: &str| {
        if rest == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{rest}{small}") }
    };
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => pair(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => pair(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => pair(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => pair(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubectl_prints_them() {
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (660, "11m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 300, "3h5m"),
            (9 * 3600 + 300, "9h"),
            (49 * 3600, "2d1h"),
            (9 * 86400, "9d"),
            (800 * 86400, "2y70d"),
            (9 * 365 * 86400, "9y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn a_row_carries_what_was_asked_for() {
        let object = json!({"metadata": {"name": "a"}, "spec": {}});
        assert_eq!(row(&object, &[json!("a")], Include::None), json!({"cells": ["a"]}));
        assert_eq!(row(&object, &[], Include::Object)["object"], object);
        assert_eq!(row(&object, &[], Include::Metadata)["object"]["kind"], "PartialObjectMetadata");
    }

    #[test]
    fn an_unknown_moment_says_so() {
        assert_eq!(since("", Timestamp::UNIX_EPOCH), json!("<unknown>"));
        assert_eq!(since("1969-12-31T23:59:00Z", Timestamp::UNIX_EPOCH), json!("60s"));
    }
}
