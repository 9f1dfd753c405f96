//! Protobuf bodies: typed Go clients (`kubectl create namespace`) send them without asking.
//!
//! Decodes Kubernetes' envelope and the message in it into the JSON form of the object, by the numbers of the table;
//! from there on a body is like any other. Answers are JSON, which those clients accept.

use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::{Field, GoType, Scalar, TABLE};
use crate::apiserver::object;

/// What every protobuf body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Deepest nesting of messages.
const DEPTH_MAX: usize = 64;

/// A body that is no protobuf of a known type.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message")]
    Magic,
    #[error("unexpected end of a protobuf message")]
    Truncated,
    #[error("protobuf wire type {0} is not in use")]
    WireType(u64),
    #[error("no kind \"{0}\" is registered")]
    UnknownKind(String),
    #[error("protobuf messages are nested too deeply")]
    Depth,
}

/// Decodes a body: the object as JSON, with its kind and apiVersion.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for entry in Entries(envelope) {
        match entry? {
            (1, Wire::Bytes(type_meta)) => {
                for entry in Entries(type_meta) {
                    match entry? {
                        (1, Wire::Bytes(text)) => api_version = text_of(text),
                        (2, Wire::Bytes(text)) => kind = text_of(text),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(content)) => raw = content,
            _ => {}
        }
    }
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let suffix = format!(".{version}.{kind}");
    let type_name = TABLE.keys().find(|name| name.ends_with(&suffix));
    let type_name = type_name.ok_or_else(|| ProtobufError::UnknownKind(kind.clone()))?;
    let mut object = message(raw, type_name, 0)?;
    object["kind"] = json!(kind);
    object["apiVersion"] = json!(api_version);
    Ok(object)
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A value on the wire.
#[derive(Clone, Copy, Debug)]
enum Wire<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// The numbered entries of a message.
struct Entries<'b>(&'b [u8]);

impl<'b> Iterator for Entries<'b> {
    type Item = Result<(u64, Wire<'b>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.0 = &[];
        }
        Some(entry)
    }
}

impl<'b> Entries<'b> {
    fn entry(&mut self) -> Result<(u64, Wire<'b>), ProtobufError> {
        let key = varint(&mut self.0)?;
        let wire = match key & 7 {
            0 => Wire::Number(varint(&mut self.0)?),
            1 => Wire::Number(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = varint(&mut self.0)?;
                let length = usize::try_from(length).map_err(|_| ProtobufError::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Number(u64::from(u32::from_le_bytes(self.array()?))),
            other => return Err(ProtobufError::WireType(other)),
        };
        Ok((key >> 3, wire))
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], ProtobufError> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        self.take(N)?.try_into().map_err(|_| ProtobufError::Truncated)
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(ProtobufError::Truncated)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ProtobufError::Truncated)
}

fn message(bytes: &[u8], type_name: &str, depth: usize) -> Result<Value, ProtobufError> {
    if depth > DEPTH_MAX {
        return Err(ProtobufError::Depth);
    }
    let mut out = Map::new();
    if let Some(fields) = TABLE.get(type_name) {
        let fields: Vec<&Field> = fields.iter().collect();
        members(bytes, &fields, 0, depth, &mut out)?;
    }
    Ok(Value::Object(out))
}

/// Reads a message, or, at a `level` below 0, one that JSON has inlined into its holder.
fn members(
    bytes: &[u8],
    fields: &[&Field],
    level: usize,
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    for entry in Entries(bytes) {
        let (number, wire) = entry?;
        let here: Vec<&Field> =
            fields.iter().copied().filter(|field| field.proto.get(level) == Some(&number)).collect();
        match (here.as_slice(), wire) {
            ([field], wire) if field.proto.len() == level + 1 => {
                let value = value(wire, &field.go_type, depth)?;
                merge(out, field, value);
            }
            ([_, ..], Wire::Bytes(inlined)) => members(inlined, &here, level + 1, depth, out)?,
            _ => {}
        }
    }
    Ok(())
}

/// Repeated fields and map entries come one by one.
fn merge(out: &mut Map<String, Value>, field: &Field, value: Value) {
    match (&field.go_type, value) {
        (GoType::Slice(_), Value::Array(items)) => {
            let known = out.entry(field.name.as_str()).or_insert_with(|| json!([]));
            if let Some(known) = known.as_array_mut() {
                known.extend(items);
            }
        }
        (GoType::Map(_), Value::Object(entries)) => {
            let known = out.entry(field.name.as_str()).or_insert_with(|| json!({}));
            if let Some(known) = known.as_object_mut() {
                known.extend(entries);
            }
        }
        (_, value) => {
            out.insert(field.name.clone(), value);
        }
    }
}

fn value(wire: Wire<'_>, go_type: &GoType, depth: usize) -> Result<Value, ProtobufError> {
    match (go_type, wire) {
        (GoType::Pointer(inner), wire) => value(wire, inner, depth),
        (GoType::Slice(inner), Wire::Bytes(packed)) if is_number(inner) => {
            let mut rest = packed;
            let mut items = Vec::new();
            while !rest.is_empty() {
                items.push(scalar(Wire::Number(varint(&mut rest)?), inner)?);
            }
            Ok(Value::Array(items))
        }
        (GoType::Slice(inner), wire) => Ok(Value::Array(vec![value(wire, inner, depth)?])),
        (GoType::Map(inner), Wire::Bytes(entry)) => {
            let (mut key, mut content) = (String::new(), Value::Null);
            for part in Entries(entry) {
                match part? {
                    (1, Wire::Bytes(text)) => key = text_of(text),
                    (2, wire) => content = value(wire, inner, depth)?,
                    _ => {}
                }
            }
            Ok(json!({key: content}))
        }
        (GoType::Struct(name), Wire::Bytes(bytes)) => message(bytes, name, depth + 1),
        (GoType::Scalar(_), wire) => scalar(wire, go_type),
        (_, Wire::Number(_)) => Ok(Value::Null),
    }
}

fn is_number(go_type: &GoType) -> bool {
    matches!(go_type, GoType::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Bool))
}

fn scalar(wire: Wire<'_>, go_type: &GoType) -> Result<Value, ProtobufError> {
    let GoType::Scalar(kind) = go_type else { return Ok(Value::Null) };
    Ok(match (kind, wire) {
        (Scalar::String, Wire::Bytes(text)) => json!(text_of(text)),
        (Scalar::Bytes, Wire::Bytes(bytes)) => json!(ByteString(bytes.to_vec())),
        (Scalar::Bool, Wire::Number(number)) => json!(number != 0),
        (Scalar::Int32 | Scalar::Int64, Wire::Number(number)) => json!(number.cast_signed()),
        (Scalar::Float64, Wire::Number(bits)) => json!(f64::from_bits(bits)),
        (Scalar::Time | Scalar::MicroTime, Wire::Bytes(bytes)) => time(bytes, *kind)?,
        (Scalar::Quantity, Wire::Bytes(bytes)) => {
            first(bytes)?.map_or(Value::Null, |text| json!(text_of(text)))
        }
        (Scalar::Any, Wire::Bytes(bytes)) => {
            first(bytes)?.and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or(Value::Null)
        }
        (Scalar::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        _ => Value::Null,
    })
}

/// The first field of a message that wraps one value.
fn first(bytes: &[u8]) -> Result<Option<&[u8]>, ProtobufError> {
    for entry in Entries(bytes) {
        if let (1, Wire::Bytes(content)) = entry? {
            return Ok(Some(content));
        }
    }
    Ok(None)
}

fn time(bytes: &[u8], kind: Scalar) -> Result<Value, ProtobufError> {
    let (mut seconds, mut nanos) = (None, 0);
    for entry in Entries(bytes) {
        match entry? {
            (1, Wire::Number(number)) => seconds = Some(number.cast_signed()),
            (2, Wire::Number(number)) => nanos = i32::try_from(number).unwrap_or(0),
            _ => {}
        }
    }
    let moment = seconds.and_then(|seconds| jiff::Timestamp::new(seconds, nanos).ok());
    Ok(match (moment, kind) {
        (None, _) => Value::Null,
        (Some(moment), Scalar::MicroTime) => json!(object::micro_time(moment)),
        (Some(moment), _) => json!(object::time(moment)),
    })
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for entry in Entries(bytes) {
        match entry? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(value)) => text = text_of(value),
            _ => {}
        }
    }
    Ok(if is_text { json!(text) } else { json!(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        out.extend(content);
        out
    }

    fn number(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &type_meta), field(2, raw)].concat()
    }

    #[test]
    fn messages_maps_lists_and_inlined_structs_become_json() {
        let label = [field(1, b"app"), field(2, b"web")].concat();
        let metadata = [field(1, b"p"), field(11, &label)].concat();
        let probe = field(1, &field(2, &field(2, &[number(1, 0), number(2, 80)].concat())));
        let container =
            [field(1, b"c"), field(2, b"nginx"), field(10, &probe), field(3, b"run"), field(3, b"fast")]
                .concat();
        let empty_dir = field(2, &field(2, b""));
        let volume = [field(1, b"v"), empty_dir].concat();
        let spec = [field(1, &volume), field(2, &container), number(4, 30)].concat();
        let raw = [field(1, &metadata), field(2, &spec)].concat();
        let decoded = decode(&body("v1", "Pod", &raw)).unwrap();
        let expected = json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "p", "labels": {"app": "web"}},
            "spec": {
                "volumes": [{"name": "v", "emptyDir": {}}],
                "containers": [{"name": "c", "image": "nginx", "command": ["run", "fast"],
                    "livenessProbe": {"httpGet": {"port": 80}}}],
                "terminationGracePeriodSeconds": 30,
            },
        });
        assert_eq!(decoded, expected);
    }

    #[test]
    fn malformed_bodies_are_refused() {
        assert_eq!(decode(b"{}"), Err(ProtobufError::Magic));
        assert_eq!(
            decode(&body("v1", "Nothing", b"")),
            Err(ProtobufError::UnknownKind("Nothing".to_owned()))
        );
        assert_eq!(decode(&body("v1", "Pod", &[0x0a, 0x7f])), Err(ProtobufError::Truncated));
        assert_eq!(decode(&body("v1", "Pod", &[0x0b])), Err(ProtobufError::WireType(3)));
    }
}
