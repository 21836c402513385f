//! A message spec: facts only. Nested structs are pulled out into one list by name, so that a
//! release may write them in place and the next one share them without a difference here.

use crate::versions::Versions;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Request,
    Response,
    Header,
    Data,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Header => "header",
            Self::Data => "data",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// With its suffix, as Kafka names it: `FetchRequest`.
    pub name: String,
    pub kind: Kind,
    pub api_key: Option<i16>,
    pub listeners: Vec<String>,
    /// `None`: no valid version is left in that release.
    pub versions: Option<Versions>,
    pub flexible: Option<Versions>,
    pub latest_unstable: bool,
    /// Improvement proposals by the version that brought them.
    pub kips: Vec<(i16, u16)>,
    pub fields: Vec<Field>,
    pub structs: Vec<Struct>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub ty: String,
    /// `None`: in no version that is valid.
    pub versions: Option<Versions>,
    pub nullable: Option<Versions>,
    pub tag: Option<u32>,
    /// Lengths stay plain in flexible versions too: the client id in a header.
    pub never_flexible: bool,
    pub ignorable: bool,
    pub default: Option<String>,
    pub map_key: bool,
    pub entity: Option<String>,
    pub kips: Vec<u16>,
}

impl Message {
    /// The API's name: the message's without its suffix.
    pub fn api(&self) -> &str {
        let suffix = match self.kind {
            Kind::Request => "Request",
            Kind::Response => "Response",
            Kind::Header | Kind::Data => "",
        };
        self.name.strip_suffix(suffix).unwrap_or(&self.name)
    }

    /// All field lists: the message's own, then those of its structs.
    pub fn bodies_mut(&mut self) -> impl Iterator<Item = &mut Vec<Field>> {
        std::iter::once(&mut self.fields).chain(self.structs.iter_mut().map(|s| &mut s.fields))
    }

    /// Cuts every range to the versions of the message, and drops what is in none of them.
    pub fn clip(&mut self) {
        let Some(valid) = self.versions else { return };
        let cut = |range: &mut Option<Versions>| *range = range.and_then(|r| r.intersect(valid));
        cut(&mut self.flexible);
        self.kips.retain(|(version, _)| valid.contains(*version));
        for fields in self.bodies_mut() {
            for field in fields.iter_mut() {
                cut(&mut field.versions);
                cut(&mut field.nullable);
                field.nullable = field.nullable.and_then(|n| n.intersect(field.versions?));
            }
            fields.retain(|field| field.versions.is_some());
        }
        self.drop_unused_structs();
    }

    fn drop_unused_structs(&mut self) {
        loop {
            let used: Vec<String> = std::iter::once(&self.fields)
                .chain(self.structs.iter().map(|s| &s.fields))
                .flatten()
                .map(|field| field.element().to_owned())
                .collect();
            let before = self.structs.len();
            self.structs.retain(|s| used.contains(&s.name));
            if self.structs.len() == before {
                return;
            }
        }
    }
}

impl Field {
    /// The type without the brackets of an array.
    pub fn element(&self) -> &str {
        self.ty.trim_start_matches("[]")
    }

    pub fn is_array(&self) -> bool {
        self.ty.starts_with("[]")
    }

    /// Whether the type, or an array's element, is a struct.
    pub fn is_struct(&self) -> bool {
        self.element().starts_with(|c: char| c.is_ascii_uppercase())
    }
}
