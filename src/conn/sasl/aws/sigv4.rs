//! Presigned requests by AWS Signature Version 4, as far as MSK asks for them: `GET /` at a host, with a query,
//! without a body. Pure: the time is given.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::AwsCredentials;
use crate::conn::sasl::hash::hmac_sha256;
use crate::{Error, Result};

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What the body of a request without one hashes to.
const EMPTY_HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A request to be signed.
pub(super) struct Request<'a> {
    pub(super) host: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) at: SystemTime,
    /// How long the signature holds.
    pub(super) expires: Duration,
    /// The query, beside what signing adds to it.
    pub(super) query: &'a [(&'a str, &'a str)],
}

/// What signing made.
pub(super) struct Signed {
    /// `X-Amz-Date`.
    pub(super) date: String,
    /// `X-Amz-Credential`.
    pub(super) credential: String,
    /// The query in its canonical form, without the signature.
    pub(super) query: Zeroizing<String>,
    /// `X-Amz-Signature`.
    pub(super) signature: String,
}

pub(super) fn sign(request: &Request<'_>, credentials: &AwsCredentials) -> Result<Signed> {
    let Request { host, region, service, .. } = *request;
    let date = basic_date(request.at)?;
    let day = date.get(..8).unwrap_or_default();
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let credential = format!("{}/{scope}", credentials.access_key_id);
    let expires = request.expires.as_secs().to_string();

    let mut query = request.query.to_vec();
    query.extend([
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", credential.as_str()),
        ("X-Amz-Date", date.as_str()),
        ("X-Amz-Expires", expires.as_str()),
        ("X-Amz-SignedHeaders", "host"),
    ]);
    query.extend(credentials.session_token_str().map(|token| ("X-Amz-Security-Token", token)));
    let query = canonical(&query);

    let canonical = Zeroizing::new(format!("GET\n/\n{}\nhost:{host}\n\nhost\n{EMPTY_HASH}", *query));
    let to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));

    let secret = Zeroizing::new([b"AWS4", credentials.secret_access_key.expose()].concat());
    let mut key = secret;
    for part in [day, region, service, "aws4_request"] {
        key = hmac_sha256(&key, part.as_bytes())?;
    }
    let signature = hex(&hmac_sha256(&key, to_sign.as_bytes())?);
    Ok(Signed { date, credential, query, signature })
}

/// A query with its names and values encoded, and then in order.
fn canonical(query: &[(&str, &str)]) -> Zeroizing<String> {
    let encode = |&(name, value): &(&str, &str)| (encoded(name), Zeroizing::new(encoded(value)));
    let mut pairs: Vec<_> = query.iter().map(encode).collect();
    pairs.sort_by(|(name, value), (other, its)| name.cmp(other).then_with(|| value.as_str().cmp(its)));
    // Room for all of it, so that growing leaves no copy behind.
    let room = pairs.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut whole = Zeroizing::new(String::with_capacity(room));
    for (name, value) in &pairs {
        for part in [if whole.is_empty() { "" } else { "&" }, name, "=", value] {
            whole.push_str(part);
        }
    }
    whole
}

/// Percent-encoded, but for the unreserved characters of RFC 3986.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&hex(&[byte]).to_ascii_uppercase());
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from(if n < 10 { b'0' + n } else { b'a' + n - 10 });
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// A time as `20150830T123600Z`.
fn basic_date(at: SystemTime) -> Result<String> {
    let since = at.duration_since(UNIX_EPOCH);
    let seconds =
        since.map_err(|e| Error::invalid("this machine's clock is before 1970").because(e))?.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Ok(format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z"))
}

/// Year, month and day of a day since 1970-01-01. Years are counted from March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01, in eras of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2015-08-30T12:36:00Z, when all of AWS's vectors were signed.
    const AT: Duration = Duration::from_mins(24_015_636);

    const UNRESERVED: &str = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    /// One of the vectors that AWS publishes (`aws-signing-test-suite/v4`): its query, and `query-signature.txt`.
    fn check(query: &[(&str, &str)], session_token: Option<&str>, signature: &str) {
        let mut credentials =
            AwsCredentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY").unwrap();
        if let Some(token) = session_token {
            credentials = credentials.session_token(token).unwrap();
        }
        let (host, region, service) = ("example.amazonaws.com", "us-east-1", "service");
        let (at, expires) = (UNIX_EPOCH + AT, Duration::from_hours(1));
        let signed = sign(&Request { host, region, service, at, expires, query }, &credentials).unwrap();
        assert_eq!(signed.date, "20150830T123600Z");
        assert_eq!(signed.signature, signature, "{}", *signed.query);
    }

    #[test]
    fn the_vectors_of_aws_are_signed_as_published() {
        check(&[], None, "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d");
        let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        check(&[], Some(token), "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c");
        for (query, signature) in [
            (
                &[("Param2", "value2"), ("Param1", "value1")][..],
                "86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5",
            ),
            (&[("Param1", "value1")][..], "49096700cbbaa5753443850f40df10f904fc2fdb544dc9512203cc77c471a9de"),
            (&[("ሴ", "bar")][..], "0bdd809b1519ac4f0c1dc3540e2cc46bd0c7f778eda408b2ebf3b913d21ff600"),
            (
                &[("Param-3", "Value3"), ("Param", "Value2"), ("ሴ", "Value1")][..],
                "c5f1848ceec943ac2ca68ee720460c23aaae30a2300586597ada94c4a65e4787",
            ),
            (
                &[(UNRESERVED, UNRESERVED)][..],
                "8e76a88a7433637b12778d5592799b29ad21ecd6cf6325051c21d86f0acda2bf",
            ),
        ] {
            check(query, None, signature);
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (1_709_164_800, "20240229T000000Z"),
            (1_735_689_599, "20241231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(basic_date(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap(), expected);
        }
        assert!(basic_date(UNIX_EPOCH - Duration::from_millis(1)).unwrap_err().is_invalid());
    }

    #[test]
    fn what_is_not_unreserved_is_encoded() {
        assert_eq!(encoded("a-._~Z9/ +=%é"), "a-._~Z9%2F%20%2B%3D%25%C3%A9");
    }
}
