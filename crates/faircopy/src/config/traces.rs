//! Where traces go: OpenTelemetry's own variables (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::SecretString;

use super::{ConfigError, Sources};

/// Headers that can be set: one says who is asking, and a few more do no harm.
const MAX_HEADERS: usize = 16;
/// What the service is called unless it is told.
const DEFAULT_SERVICE: &str = "faircopy";

/// Where spans are sent.
#[derive(Debug, Clone)]
pub struct Traces {
    /// The whole address, with `/v1/traces`.
    pub url: Url,
    /// `OTEL_EXPORTER_OTLP_HEADERS`: they may say who is asking, and are secret.
    pub headers: Vec<(String, SecretString)>,
    /// `OTEL_SERVICE_NAME`.
    pub service: String,
}

/// Reads the variables. Without an endpoint nothing is traced.
pub(super) fn read(sources: &Sources<'_>) -> Result<Option<Traces>, ConfigError> {
    let first = |variables: &[&str]| sources.first(None, variables, None);
    let protocol = first(&["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"])?;
    let (exact, base) = (first(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])?, first(&["OTEL_EXPORTER_OTLP_ENDPOINT"])?);
    let url = match (exact, base) {
        (Some(exact), _) => exact.read(endpoint_of)?,
        (None, Some(base)) => base.read(|text| endpoint_of(&format!("{}/v1/traces", text.trim_end_matches('/'))))?,
        (None, None) => return Ok(None),
    };
    if let Some(protocol) = protocol {
        protocol.read(protocol_of)?;
    }
    let headers = first(&["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"])?;
    let service = first(&["OTEL_SERVICE_NAME"])?.map_or_else(|| DEFAULT_SERVICE.to_owned(), |name| name.value);
    Ok(Some(Traces { url, headers: headers.map_or(Ok(Vec::new()), |headers| headers.read(headers_of))?, service }))
}

fn endpoint_of(text: &str) -> Result<Url, &'static str> {
    const FORM: &str = "is not an address; expected `http://localhost:4318`";
    let url = Url::parse(text).map_err(|_| FORM)?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() && is_plain { Ok(url) } else { Err(FORM) }
}

fn protocol_of(text: &str) -> Result<(), &'static str> {
    if text == "http/protobuf" { Ok(()) } else { Err("is not spoken; expected `http/protobuf`") }
}

/// `name=value,name=value`, the values percent-encoded as in W3C's baggage.
fn headers_of(text: &str) -> Result<Vec<(String, SecretString)>, &'static str> {
    const FORM: &str = "is not a list of headers; expected `name=value`, several separated by commas";
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let read = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or(FORM)?;
        let value = decoded(value.trim()).ok_or(FORM)?;
        let name = name.trim().to_ascii_lowercase();
        let can_be_sent = HeaderName::try_from(name.as_str()).is_ok() && HeaderValue::from_str(&value).is_ok();
        if can_be_sent { Ok((name, value.into())) } else { Err(FORM) }
    };
    let headers: Vec<(String, SecretString)> = pairs.map(read).collect::<Result<_, _>>()?;
    if headers.len() > MAX_HEADERS { Err(FORM) } else { Ok(headers) }
}

fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, others @ ..] = rest {
        if *first == b'%' {
            let digits = str::from_utf8(others.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use secrecy::ExposeSecret as _;

    fn load(variables: &[(&str, &str)]) -> Result<Option<Traces>, ConfigError> {
        let environment = Environment(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        read(&Sources { environment: &environment })
    }

    #[test]
    fn the_endpoint_is_one_for_all_signals_or_one_for_traces() {
        let check = |variables: &[(&str, &str)], expected: Option<&str>| {
            let traces = load(variables).unwrap();
            assert_eq!(traces.as_ref().map(|traces| traces.url.as_str()), expected, "{variables:?}");
        };
        check(&[], None);
        check(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], None);
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        check(&[base], Some("http://collector:4318/v1/traces"));
        let exact = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://example.com/otlp");
        check(&[base, exact], Some("https://example.com/otlp"));
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api key=x"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=%0a"),
        ] {
            let error = load(&[base, (name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains("expected") || name == base.0, "{error}");
        }
    }

    #[test]
    fn headers_are_secret() {
        let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20canary, x-team = a=b");
        let traces = load(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"), headers]).unwrap().unwrap();
        let read: Vec<_> = traces.headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        assert_eq!(read, [("authorization", "Bearer canary"), ("x-team", "a=b")]);
        assert!(!format!("{traces:?}").contains("canary"));
    }
}
