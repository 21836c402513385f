//! Just enough HTTP for a token endpoint: one request a connection, its size bounded.

use std::io::{self, Read, Write};

const HEAD_MAX: usize = 16 << 10;
const BODY_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;

/// A request.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) authorization: Option<String>,
    /// A form's fields in order; empty if the body is no form.
    pub(super) fields: Vec<(String, String)>,
}

impl Request {
    /// The first field of that name, or nothing.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads one request.
pub(super) fn read(from: &mut impl Read) -> io::Result<Request> {
    let mut seen = Vec::new();
    let mut chunk = [0; 2048];
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        seen.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if let Some((request, body_at, length)) = head(&seen)? {
            if length > BODY_MAX {
                return Err(io::Error::other("the body is too large"));
            }
            let rest = (body_at + length).saturating_sub(seen.len()) as u64;
            from.by_ref().take(rest).read_to_end(&mut seen)?;
            let body = seen.get(body_at..body_at + length).ok_or(io::ErrorKind::UnexpectedEof)?;
            let fields = form_urlencoded::parse(body).into_owned().collect();
            return Ok(Request { fields, ..request });
        }
        if seen.len() > HEAD_MAX {
            return Err(io::Error::other("the head is too large"));
        }
    }
}

/// The request without its body, where the body begins, and how long it is; nothing while the head is incomplete.
fn head(seen: &[u8]) -> io::Result<Option<(Request, usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(body_at) = parsed.parse(seen).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let header = |name: &str| {
        let found = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).into_owned())
    };
    let length =
        header("content-length").map_or(Ok(0), |text| text.trim().parse()).map_err(io::Error::other)?;
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().to_owned(),
        authorization: header("authorization"),
        fields: Vec::new(),
    };
    Ok(Some((request, body_at, length)))
}

/// Answers with a JSON body and the end of the connection. `more` is further header lines.
pub(super) fn answer(to: &mut impl Write, status: &str, more: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        to,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n{more}\r\n{body}"
    )?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_however_it_arrives() {
        let text =
            b"POST /token HTTP/1.1\r\nAuthorization: Basic eA==\r\ncontent-length: 12\r\n\r\na=1&b=%2F+&c";
        let (first, second) = text.split_at(60);
        let request = read(&mut first.chain(second)).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/token"));
        assert_eq!(request.authorization.as_deref(), Some("Basic eA=="));
        assert_eq!(
            (request.field("a"), request.field("b"), request.field("d")),
            (Some("1"), Some("/ "), None)
        );
    }

    #[test]
    fn what_is_cut_or_too_large_is_refused() {
        let endless = "GET / HTTP/1.1\r\nx: ".to_owned() + &"y".repeat(HEAD_MAX + 4096);
        for bad in [
            "",
            "GET / HT",
            "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab",
            endless.as_str(),
            "POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        ] {
            assert!(read(&mut bad.as_bytes()).is_err(), "{bad:.40}");
        }
    }
}
