//! A second reading of `protocol-specs/`, which only walks: where in the bytes of a message its lengths,
//! counts and tags lie, so that tests can break each of them; and messages that claim as much as they can.
//!
//! It shares no code with the library. A walk that does not end where the message ends fails the test.

#![allow(dead_code, reason = "two test binaries, and each takes its part")]

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

type Versions = (i16, i16);

/// All messages, by kind and name.
pub(crate) struct Specs(HashMap<(String, String), Spec>);

pub(crate) struct Spec {
    flexible: Option<Versions>,
    fields: Vec<Field>,
    structs: HashMap<String, Vec<Field>>,
}

struct Field {
    name: String,
    ty: Type,
    versions: Versions,
    nullable: Option<Versions>,
    tag: Option<u32>,
    never_flexible: bool,
}

enum Type {
    Fixed(usize),
    Str,
    Bytes,
    Struct(String),
    Array(Box<Type>),
}

/// A place in a message's bytes.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) field: String,
    pub(crate) at: usize,
    /// The bytes of the length or count itself; of a section of tags, all of it.
    pub(crate) len: usize,
    pub(crate) what: What,
    pub(crate) flex: bool,
    pub(crate) nullable: bool,
    /// Whether it lies in a tagged field, whose size would have to change with it.
    pub(crate) in_tag: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Array,
    /// With so many bytes of text behind the length.
    Str(usize),
    Bytes(usize),
    Tags,
    ErrorCode,
}

impl Specs {
    pub(crate) fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol-specs");
        let mut found = HashMap::new();
        for entry in std::fs::read_dir(folder).expect("protocol-specs") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = std::fs::read(&path).expect("a spec");
            let messages: Value = serde_json::from_slice(&text).expect("JSON");
            for message in messages.as_array().expect("a list of messages") {
                let kinds = ["request", "response", "data", "header"];
                let kind = kinds.into_iter().find(|kind| message.get(kind).is_some()).expect("a kind");
                let name = message[kind].as_str().expect("a name");
                found.insert((kind.to_owned(), name.to_owned()), Spec::read(message));
            }
        }
        Self(found)
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> &Spec {
        &self.0[&(kind.to_owned(), name.to_owned())]
    }
}

impl Spec {
    fn read(message: &Value) -> Self {
        let none = Vec::new();
        let structs = message["structs"].as_array().unwrap_or(&none).iter();
        let structs = structs.map(|s| (s["name"].as_str().expect("a name").to_owned(), fields(s))).collect();
        let flexible = message["flexible"].as_str().map(versions);
        Self { flexible, fields: fields(message), structs }
    }

    /// Where in `bytes`, a whole message, lengths and counts lie.
    pub(crate) fn walk(&self, version: i16, bytes: &[u8]) -> Vec<Mark> {
        let flex = self.is_flexible(version);
        let mut walk = Walk { spec: self, version, bytes, at: 0, flex, in_tag: false, marks: Vec::new() };
        walk.fields(&self.fields);
        assert_eq!(walk.at, bytes.len(), "the walk must end where the message does");
        walk.marks
    }

    fn is_flexible(&self, version: i16) -> bool {
        self.flexible.is_some_and(|range| within(range, version))
    }

    /// Messages of `size` bytes in which arrays claim as many elements as those bytes could hold, one in
    /// the other, one message for each way down. They end in elements that are as small as can be.
    pub(crate) fn claims(&self, version: i16, size: usize) -> Vec<Vec<u8>> {
        let mut choices = Choices::default();
        let mut found = Vec::new();
        loop {
            let mut claim =
                Claim { spec: self, version, size, flex: self.is_flexible(version), out: Vec::new() };
            if !claim.descend(&self.fields, &mut choices) {
                return found;
            }
            found.push(claim.out);
            if !choices.advance() {
                return found;
            }
        }
    }
}

fn fields(of: &Value) -> Vec<Field> {
    let read = |field: &Value| Field {
        name: field["name"].as_str().expect("a name").to_owned(),
        ty: Type::read(field["type"].as_str().expect("a type")),
        versions: versions(field["versions"].as_str().expect("versions")),
        nullable: field["nullable"].as_str().map(versions),
        tag: field["tag"].as_u64().map(|tag| tag as u32),
        never_flexible: field["flexible"] == "none",
    };
    of["fields"].as_array().expect("a list of fields").iter().map(read).collect()
}

fn versions(text: &str) -> Versions {
    let number = |text: &str| text.parse().expect("a version");
    match (text.strip_suffix('+'), text.split_once('-')) {
        (Some(first), _) => (number(first), i16::MAX),
        (None, Some((first, last))) => (number(first), number(last)),
        (None, None) => (number(text), number(text)),
    }
}

fn within((first, last): Versions, version: i16) -> bool {
    (first..=last).contains(&version)
}

impl Type {
    fn read(text: &str) -> Self {
        match text {
            "bool" | "int8" => Self::Fixed(1),
            "int16" | "uint16" => Self::Fixed(2),
            "int32" | "uint32" => Self::Fixed(4),
            "int64" | "float64" => Self::Fixed(8),
            "uuid" => Self::Fixed(16),
            "string" => Self::Str,
            "bytes" | "records" => Self::Bytes,
            _ => match text.strip_prefix("[]") {
                Some(element) => Self::Array(Box::new(Self::read(element))),
                None => Self::Struct(text.to_owned()),
            },
        }
    }
}

struct Walk<'a> {
    spec: &'a Spec,
    version: i16,
    bytes: &'a [u8],
    at: usize,
    flex: bool,
    in_tag: bool,
    marks: Vec<Mark>,
}

impl<'a> Walk<'a> {
    fn fields(&mut self, fields: &'a [Field]) {
        let version = self.version;
        for field in fields.iter().filter(|f| f.tag.is_none() && within(f.versions, version)) {
            self.field(field);
        }
        if self.flex {
            self.tags(fields);
        }
    }

    fn field(&mut self, field: &'a Field) {
        let flex = self.flex;
        self.flex &= !field.never_flexible;
        let nullable = field.nullable.is_some_and(|range| within(range, self.version));
        self.value(&field.ty, &field.name, nullable);
        self.flex = flex;
    }

    fn tags(&mut self, fields: &'a [Field]) {
        let (start, place, in_tag) = (self.at, self.marks.len(), self.in_tag);
        for _ in 0..self.uvarint() {
            let tag = self.uvarint();
            let end = self.uvarint() as usize + self.at;
            let known = fields.iter().find(|f| f.tag == Some(tag) && within(f.versions, self.version));
            if let Some(field) = known {
                self.in_tag = true;
                self.field(field);
                assert_eq!(self.at, end, "a tagged field has another size than it says");
                self.in_tag = in_tag;
            }
            self.at = end;
        }
        let mark = self.mark(start, "tagged fields", What::Tags, false);
        self.marks.insert(place, mark);
    }

    fn value(&mut self, ty: &'a Type, name: &str, nullable: bool) {
        let start = self.at;
        match ty {
            Type::Fixed(len) => {
                self.at += len;
                if *len == 2 && name == "ErrorCode" {
                    let mark = self.mark(start, name, What::ErrorCode, false);
                    self.marks.push(mark);
                }
            }
            Type::Str | Type::Bytes => {
                let len = if matches!(ty, Type::Str) { self.length(2) } else { self.length(4) };
                let content = len.unwrap_or(0);
                let what = if matches!(ty, Type::Str) { What::Str(content) } else { What::Bytes(content) };
                let mark = self.mark(start, name, what, nullable);
                self.marks.push(mark);
                self.at += content;
            }
            Type::Array(element) => {
                let count = self.length(4);
                let mark = self.mark(start, name, What::Array, nullable);
                self.marks.push(mark);
                for _ in 0..count.unwrap_or(0) {
                    self.value(element, name, false);
                }
            }
            Type::Struct(inner) => {
                let is_null = nullable && self.fixed(1) < 0;
                if !is_null {
                    let spec = self.spec;
                    self.fields(&spec.structs[inner]);
                }
            }
        }
    }

    /// From `at` to here.
    fn mark(&self, at: usize, field: &str, what: What, nullable: bool) -> Mark {
        let (field, len) = (field.to_owned(), self.at - at);
        Mark { field, at, len, what, flex: self.flex, nullable, in_tag: self.in_tag }
    }

    fn length(&mut self, plain: usize) -> Option<usize> {
        let len = if self.flex { i64::from(self.uvarint()) - 1 } else { self.fixed(plain) };
        usize::try_from(len).ok()
    }

    fn fixed(&mut self, len: usize) -> i64 {
        let bytes = &self.bytes[self.at..self.at + len];
        self.at += len;
        bytes.iter().fold(if bytes[0] < 0x80 { 0 } else { -1 }, |n, byte| n << 8 | i64::from(*byte))
    }

    fn uvarint(&mut self) -> u32 {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = self.bytes[self.at];
            self.at += 1;
            n |= u32::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return n;
            }
        }
    }
}

/// Goes through all ways to choose, one after the other.
#[derive(Default)]
struct Choices {
    /// What was chosen, and out of how many.
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn pick(&mut self, of: usize) -> usize {
        if self.at == self.taken.len() {
            self.taken.push((0, of));
        }
        self.at += 1;
        self.taken[self.at - 1].0
    }

    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((taken, of)) = self.taken.pop() {
            if taken + 1 < of {
                self.taken.push((taken + 1, of));
                return true;
            }
        }
        false
    }
}

struct Claim<'a> {
    spec: &'a Spec,
    version: i16,
    size: usize,
    flex: bool,
    out: Vec<u8>,
}

impl<'a> Claim<'a> {
    fn present(&self, fields: &'a [Field]) -> impl Iterator<Item = &'a Field> + use<'a> {
        let version = self.version;
        fields.iter().filter(move |f| f.tag.is_none() && within(f.versions, version))
    }

    /// Writes the fields up to one that leads to an array, and that array. False: there is none.
    fn descend(&mut self, fields: &'a [Field], choices: &mut Choices) -> bool {
        let ways: Vec<usize> = (self.present(fields).enumerate())
            .filter(|(_, field)| self.leads_to_array(&field.ty))
            .map(|(at, _)| at)
            .collect();
        if ways.is_empty() {
            return false;
        }
        let way = ways[choices.pick(ways.len())];
        for (at, field) in self.present(fields).enumerate() {
            let nullable = field.nullable.is_some_and(|range| within(range, self.version));
            if at < way {
                let smallest = self.smallest(&field.ty, nullable);
                self.out.extend_from_slice(&smallest);
                continue;
            }
            match &field.ty {
                Type::Array(element) => self.array(element, choices),
                Type::Struct(inner) => {
                    if nullable {
                        self.out.push(1);
                    }
                    self.descend(&self.spec.structs[inner], choices);
                }
                _ => unreachable!("it leads to an array"),
            }
            break;
        }
        true
    }

    fn leads_to_array(&self, ty: &'a Type) -> bool {
        match ty {
            Type::Array(_) => true,
            Type::Struct(inner) => {
                self.present(&self.spec.structs[inner]).any(|field| self.leads_to_array(&field.ty))
            }
            _ => false,
        }
    }

    fn array(&mut self, element: &'a Type, choices: &mut Choices) {
        let smallest = self.smallest(element, false);
        let room = self.size.saturating_sub(self.out.len() + if self.flex { 5 } else { 4 });
        let count = room / smallest.len().max(1);
        if self.flex {
            // Five bytes, whatever the number, so that the room is known before.
            let over = count as u32 + 1;
            let bits = |shift: u32| (over >> shift) as u8 & 0x7f;
            self.out.extend([bits(0) | 0x80, bits(7) | 0x80, bits(14) | 0x80, bits(21) | 0x80, bits(28)]);
        } else {
            self.out.extend_from_slice(&(count as i32).to_be_bytes());
        }
        if let Type::Struct(inner) = element
            && self.leads_to_array(element)
            && choices.pick(2) == 1
        {
            self.descend(&self.spec.structs[inner], choices);
            return;
        }
        for _ in 0..count {
            self.out.extend_from_slice(&smallest);
        }
    }

    /// The fewest bytes that a value can be written in.
    fn smallest(&self, ty: &Type, nullable: bool) -> Vec<u8> {
        match ty {
            Type::Fixed(len) => vec![0; *len],
            Type::Str | Type::Bytes | Type::Array(_) if self.flex => vec![1],
            Type::Str => vec![0; 2],
            Type::Bytes | Type::Array(_) => vec![0; 4],
            Type::Struct(_) if nullable => vec![0xff],
            Type::Struct(inner) => {
                let fields = self.spec.structs[inner].iter();
                let present = fields.filter(|f| f.tag.is_none() && within(f.versions, self.version));
                let mut bytes: Vec<u8> = present
                    .flat_map(|f| {
                        self.smallest(&f.ty, f.nullable.is_some_and(|range| within(range, self.version)))
                    })
                    .collect();
                if self.flex {
                    bytes.push(0);
                }
                bytes
            }
        }
    }
}
