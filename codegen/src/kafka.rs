//! Parses one of Kafka's own spec files: JSON with `//` comments.
//!
//! Of the comments only one kind of fact is kept: which KIP is named for which version. An
//! attribute that this parser does not know is an error, so that a new kind of fact in a new
//! release is seen and not lost.

use serde_json::{Map, Value};

use crate::Result;
use crate::model::{Field, Kind, Message, Struct};
use crate::versions::Versions;

type Object = Map<String, Value>;

const MESSAGE_KEYS: &[&str] = &[
    "apiKey",
    "type",
    "listeners",
    "name",
    "validVersions",
    "deprecatedVersions",
    "flexibleVersions",
    "latestVersionUnstable",
    "fields",
    "commonStructs",
];

/// `about` is prose and `zeroCopy` is about Java's buffers; both are left behind.
const FIELD_KEYS: &[&str] = &[
    "name",
    "type",
    "versions",
    "nullableVersions",
    "tag",
    "taggedVersions",
    "flexibleVersions",
    "ignorable",
    "default",
    "mapKey",
    "entityType",
    "fields",
    "about",
    "zeroCopy",
];

/// Parses the text of a spec file.
pub fn parse(text: &str) -> Result<Message> {
    let (json, comments) = split_comments(text);
    let root: Value = serde_json::from_str(&json).map_err(|e| e.to_string())?;
    let root = root.as_object().ok_or("not an object")?;
    check_keys(root, MESSAGE_KEYS)?;
    let mut message = Message {
        name: text_of(root, "name")?,
        kind: kind_of(&text_of(root, "type")?)?,
        api_key: root
            .get("apiKey")
            .and_then(Value::as_i64)
            .map(i16::try_from)
            .transpose()
            .map_err(|e| e.to_string())?,
        listeners: strings_of(root, "listeners"),
        versions: versions_of(root, "validVersions")?,
        flexible: versions_of(root, "flexibleVersions")?,
        latest_unstable: flag(root, "latestVersionUnstable")?,
        kips: kips_by_version(&comments),
        fields: Vec::new(),
        structs: Vec::new(),
    };
    message.fields = parse_fields(objects_of(root, "fields")?, &mut message.structs)?;
    for common in objects_of(root, "commonStructs")? {
        let name = text_of(common, "name")?;
        let at = message.structs.len();
        let fields = parse_fields(objects_of(common, "fields")?, &mut message.structs)?;
        message.structs.insert(at, Struct { name, fields });
    }
    message.clip();
    Ok(message)
}

fn parse_fields(fields: Vec<&Object>, structs: &mut Vec<Struct>) -> Result<Vec<Field>> {
    fields.into_iter().map(|field| parse_field(field, structs)).collect()
}

fn parse_field(object: &Object, structs: &mut Vec<Struct>) -> Result<Field> {
    check_keys(object, FIELD_KEYS)?;
    let name = text_of(object, "name")?;
    let context = |e: String| format!("field {name}: {e}");
    let ty = text_of(object, "type").map_err(context)?;
    let versions = versions_of(object, "versions").map_err(context)?;
    let tagged = versions_of(object, "taggedVersions").map_err(context)?;
    if tagged.is_some() && tagged != versions {
        return Err(context("tagged in some versions only: the tables cannot say that".into()));
    }
    let never_flexible = match object.get("flexibleVersions").map(plain).as_deref() {
        None => false,
        Some("none") => true,
        Some(other) => {
            return Err(context(format!("flexible versions {other} of its own: the tables cannot say that")));
        }
    };
    let field = Field {
        versions,
        nullable: versions_of(object, "nullableVersions").map_err(context)?,
        tag: number_of(object, "tag").map_err(context)?,
        never_flexible,
        ignorable: flag(object, "ignorable").map_err(context)?,
        default: object.get("default").map(plain),
        map_key: flag(object, "mapKey").map_err(context)?,
        entity: object.get("entityType").map(plain),
        kips: object.get("about").map(plain).map(|about| kips_in(&about)).unwrap_or_default(),
        name: name.clone(),
        ty,
    };
    let nested = objects_of(object, "fields")?;
    if !nested.is_empty() {
        let at = structs.len();
        let fields = parse_fields(nested, structs)?;
        structs.insert(at, Struct { name: field.element().to_owned(), fields });
    }
    Ok(field)
}

/// Parts the JSON from its line comments, minding strings that hold two slashes.
fn split_comments(text: &str) -> (String, String) {
    let (mut json, mut comments) = (String::new(), String::new());
    for line in text.lines() {
        let (mut in_string, mut escaped, mut cut) = (false, false, line.len());
        for (i, c) in line.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '"' => in_string = !in_string,
                '/' if !in_string && line[i..].starts_with("//") => {
                    cut = i;
                    break;
                }
                _ => {}
            }
        }
        let (code, comment) = line.split_at(cut);
        json.push_str(code);
        json.push('\n');
        // What stands beside the fields is about a field, not about a version.
        if !json.contains("\"fields\"") {
            comments.push_str(comment.trim_start_matches('/').trim());
            comments.push('\n');
        }
    }
    (json, comments)
}

/// The KIPs that the comments name for a version: from a line that starts with "Version 13", to the
/// next such line.
fn kips_by_version(comments: &str) -> Vec<(i16, u16)> {
    let mut version = None;
    let mut found = Vec::new();
    for line in comments.lines() {
        let lower = line.to_lowercase();
        if let Some(rest) = ["version ", "starting in version ", "starting from version "]
            .iter()
            .find_map(|start| lower.strip_prefix(start))
        {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            version = digits.parse::<i16>().ok();
        }
        if let Some(version) = version {
            found.extend(kips_in(line).into_iter().map(|kip| (version, kip)));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn kips_in(text: &str) -> Vec<u16> {
    let lower = text.to_lowercase();
    let mut kips: Vec<u16> = lower
        .split("kip-")
        .skip(1)
        .filter_map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok())
        .collect();
    kips.sort_unstable();
    kips.dedup();
    kips
}

fn check_keys(object: &Object, known: &[&str]) -> Result<()> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("unknown attribute {key:?}: teach codegen what it means")),
        None => Ok(()),
    }
}

fn kind_of(word: &str) -> Result<Kind> {
    [Kind::Request, Kind::Response, Kind::Header, Kind::Data]
        .into_iter()
        .find(|kind| kind.word() == word)
        .ok_or_else(|| format!("unknown message type {word:?}"))
}

fn text_of(object: &Object, key: &str) -> Result<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("no text {key:?}"))
}

/// A flag, a number or a text, as text: releases write `"default": -1` and `"default": "-1"`.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn flag(object: &Object, key: &str) -> Result<bool> {
    match object.get(key).map(plain).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!("{key} is {other:?}, not true or false")),
    }
}

fn number_of(object: &Object, key: &str) -> Result<Option<u32>> {
    object
        .get(key)
        .map(plain)
        .map(|text| text.parse().map_err(|_| format!("{key} is {text:?}, no number")))
        .transpose()
}

/// A range of versions; `None` if it is absent or says `none`.
fn versions_of(object: &Object, key: &str) -> Result<Option<Versions>> {
    object.get(key).map(plain).map_or(Ok(None), |text| Versions::parse(&text))
}

fn strings_of(object: &Object, key: &str) -> Vec<String> {
    object.get(key).and_then(Value::as_array).into_iter().flatten().map(plain).collect()
}

fn objects_of<'a>(object: &'a Object, key: &str) -> Result<Vec<&'a Object>> {
    object
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|value| value.as_object().ok_or_else(|| format!("{key} holds something that is no object")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"
// Version 1 adds B, see KIP-12 and KIP-7.
//
// Version 2 is the same // as version 1.
{ "apiKey": 9, "type": "request", "name": "AbcRequest", "listeners": ["broker"],
  "validVersions": "0-2", "flexibleVersions": "2+", "fields": [
  { "name": "A", "type": "[]Part", "versions": "0+", "about": "as http://x says (KIP-99)", "fields": [
    { "name": "Id", "type": "int32", "versions": "0+", "mapKey": true } ] },
  { "name": "B", "type": "string", "versions": "1+", "nullableVersions": "2+", "tag": "0", "default": "null" },
  { "name": "Gone", "type": "Lost", "versions": "7+", "fields": [ { "name": "X", "type": "int8", "versions": "7+" } ] }
]}"#;

    #[test]
    fn a_spec_becomes_facts() {
        let message = parse(SPEC).unwrap();
        assert_eq!((message.name.as_str(), message.api(), message.api_key), ("AbcRequest", "Abc", Some(9)));
        assert_eq!(message.kips, [(1, 7), (1, 12)]);
        assert_eq!(message.structs.len(), 1, "the struct of a field in no valid version is gone");
        assert_eq!(message.structs[0].name, "Part");
        assert!(message.structs[0].fields[0].map_key);
        assert_eq!(message.fields[0].kips, [99]);
        assert_eq!(message.fields[1].nullable, Some(Versions { first: 2, last: 2 }));
        assert_eq!(message.fields[1].tag, Some(0));
        assert_eq!(message.fields.len(), 2);
    }

    #[test]
    fn an_unknown_attribute_is_an_error() {
        let text = SPEC.replace("\"mapKey\"", "\"mapQuay\"");
        assert!(parse(&text).unwrap_err().contains("mapQuay"));
    }
}
