//! `protocol-specs/`: the merged specs as JSON, one file an API, one line a field.
//!
//! Nothing but facts is in them, in an order that depends on the specs alone, so that the change
//! that a new Kafka brings can be read as a diff.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::model::{Field, Kind, Message, Struct};
use crate::versions::Versions;
use crate::{Files, Result};

/// The files of `protocol-specs/` for these messages.
pub fn write(messages: &[Message]) -> Files {
    let mut by_file: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
    for message in messages {
        by_file.entry(message.api()).or_default().push(message);
    }
    by_file.into_iter().map(|(name, group)| (format!("{name}.json"), write_file(&group))).collect()
}

fn write_file(messages: &[&Message]) -> String {
    let bodies: Vec<String> = messages.iter().map(|message| write_message(message)).collect();
    format!("[\n{}\n]\n", bodies.join(",\n"))
}

fn write_message(message: &Message) -> String {
    let last = message.versions.map_or(i16::MAX, |v| v.last);
    let mut head = Map::new();
    head.insert(message.kind.word().to_owned(), json!(message.name));
    if let Some(key) = message.api_key {
        head.insert("key".to_owned(), json!(key));
    }
    if !message.listeners.is_empty() {
        head.insert("listeners".to_owned(), json!(message.listeners));
    }
    head.insert(
        "versions".to_owned(),
        json!(message.versions.map_or_else(|| "none".to_owned(), |v| v.to_string())),
    );
    if let Some(flexible) = message.flexible {
        head.insert("flexible".to_owned(), json!(flexible.within(last)));
    }
    if message.latest_unstable {
        head.insert("latestUnstable".to_owned(), json!(true));
    }
    if !message.kips.is_empty() {
        let kips: Vec<String> =
            message.kips.iter().map(|(version, kip)| format!("{version}:KIP-{kip}")).collect();
        head.insert("kips".to_owned(), json!(kips));
    }
    let mut out = String::from("  {\n");
    for (key, value) in &head {
        let _ = writeln!(out, "    {key:?}: {},", spaced(value));
    }
    let _ = write!(out, "    \"fields\": {}", write_fields(&message.fields, last, "      "));
    if !message.structs.is_empty() {
        let structs: Vec<String> = message
            .structs
            .iter()
            .map(|s| {
                let fields = write_fields(&s.fields, last, "        ");
                format!("      {{\"name\": {:?}, \"fields\": {fields}}}", s.name)
            })
            .collect();
        let _ = write!(out, ",\n    \"structs\": [\n{}\n    ]", structs.join(",\n"));
    }
    out.push_str("\n  }");
    out
}

fn write_fields(fields: &[Field], last: i16, indent: &str) -> String {
    if fields.is_empty() {
        return "[]".to_owned();
    }
    let lines: Vec<String> =
        fields.iter().map(|f| format!("{indent}{}", spaced(&field_facts(f, last)))).collect();
    format!("[\n{}\n{}]", lines.join(",\n"), &indent[2..])
}

fn field_facts(field: &Field, last: i16) -> Value {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("name", json!(field.name));
    put("type", json!(field.ty));
    put("versions", json!(field.versions.map_or_else(|| "none".to_owned(), |v| v.within(last))));
    if let Some(nullable) = field.nullable {
        put("nullable", json!(nullable.within(last)));
    }
    if let Some(tag) = field.tag {
        put("tag", json!(tag));
    }
    if field.never_flexible {
        put("flexible", json!("none"));
    }
    if let Some(default) = &field.default {
        put("default", json!(default));
    }
    if field.ignorable {
        put("ignorable", json!(true));
    }
    if field.map_key {
        put("mapKey", json!(true));
    }
    if let Some(entity) = &field.entity {
        put("entity", json!(entity));
    }
    if !field.kips.is_empty() {
        put("kips", json!(field.kips));
    }
    Value::Object(map)
}

/// JSON on one line, with a space after each comma and colon.
fn spaced(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let parts: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?}: {}", spaced(value))).collect();
            format!("{{{}}}", parts.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Reads the files back.
pub fn read(files: &Files) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for (name, text) in files {
        let context = |e: String| format!("{name}: {e}");
        let value: Value = serde_json::from_str(text).map_err(|e| context(e.to_string()))?;
        for item in value.as_array().ok_or_else(|| context("not a list".to_owned()))? {
            messages.push(read_message(item).map_err(context)?);
        }
    }
    messages.sort_by(|a, b| (a.kind, a.api_key, &a.name).cmp(&(b.kind, b.api_key, &b.name)));
    Ok(messages)
}

fn read_message(value: &Value) -> Result<Message> {
    let kind = [Kind::Request, Kind::Response, Kind::Header, Kind::Data]
        .into_iter()
        .find(|kind| value.get(kind.word()).is_some())
        .ok_or("no message kind")?;
    let kips = value["kips"].as_array().into_iter().flatten().map(|pair| {
        let (version, kip) =
            pair.as_str().and_then(|s| s.split_once(":KIP-")).ok_or("a KIP without its version")?;
        Ok((version.parse().map_err(|_| "bad version")?, kip.parse().map_err(|_| "bad KIP")?))
    });
    let mut structs = Vec::new();
    for item in value["structs"].as_array().into_iter().flatten() {
        structs.push(Struct { name: text(item, "name")?, fields: read_fields(&item["fields"])? });
    }
    let mut message = Message {
        name: text(value, kind.word())?,
        kind,
        api_key: value["key"].as_i64().map(i16::try_from).transpose().map_err(|e| e.to_string())?,
        listeners: value["listeners"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        versions: Versions::parse(&text(value, "versions")?)?,
        flexible: optional_versions(value, "flexible")?,
        latest_unstable: value["latestUnstable"] == true,
        kips: kips.collect::<std::result::Result<_, &str>>()?,
        fields: read_fields(&value["fields"])?,
        structs,
    };
    message.clip();
    Ok(message)
}

fn read_fields(value: &Value) -> Result<Vec<Field>> {
    value.as_array().ok_or("no fields")?.iter().map(read_field).collect()
}

fn read_field(value: &Value) -> Result<Field> {
    let tag =
        value.get("tag").map(|tag| tag.as_u64().and_then(|tag| u32::try_from(tag).ok()).ok_or("bad tag"));
    let kips = value["kips"].as_array().into_iter().flatten();
    Ok(Field {
        name: text(value, "name")?,
        ty: text(value, "type")?,
        versions: Versions::parse(&text(value, "versions")?)?,
        nullable: optional_versions(value, "nullable")?,
        tag: tag.transpose()?,
        never_flexible: value["flexible"] == "none",
        ignorable: value["ignorable"] == true,
        default: value["default"].as_str().map(str::to_owned),
        map_key: value["mapKey"] == true,
        entity: value["entity"].as_str().map(str::to_owned),
        kips: kips.filter_map(|kip| kip.as_u64().and_then(|kip| u16::try_from(kip).ok())).collect(),
    })
}

fn text(value: &Value, key: &str) -> Result<String> {
    value[key].as_str().map(str::to_owned).ok_or_else(|| format!("no {key:?}"))
}

fn optional_versions(value: &Value, key: &str) -> Result<Option<Versions>> {
    Ok(value.get(key).and_then(Value::as_str).map(Versions::parse).transpose()?.flatten())
}
