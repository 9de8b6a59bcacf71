//! The one request that is no read: Clerk makes a link that opens the instance's webhooks in Svix's own pages. It changes nothing.
//!
//! Whoever has the link can change the endpoints: it is a secret, shown to whoever asked for it and to nobody else.

use secrecy::SecretString;
use serde::Deserialize;

use super::*;

/// What came of asking for the link.
pub enum Portal {
    /// It opens the instance's webhooks, for a while.
    Link(SecretString),
    /// Webhooks were never opened in Clerk's dashboard, which makes what the link would lead to.
    NotThere,
}

#[derive(Deserialize)]
struct Made {
    svix_url: String,
}

impl Clerk {
    /// Asks for a link to the webhooks of the instance that the key belongs to.
    pub async fn portal(&self) -> Result<Portal, Fault> {
        match self.check_instance(Share::Foreground).await {
            // A link is only looked at: whose it is, its page says.
            Ok(()) | Err(Fault::UnknownInstance) => {}
            Err(fault) => return Err(fault),
        }
        let url = list::address(&self.base, &["webhooks", "svix_url"]).ok_or(Fault::Malformed)?;
        match self.send(self.client.post(url), "webhooks/svix_url", Share::Foreground).await {
            Ok((_, Some(body))) => Ok(Portal::Link(link(&body)?)),
            Err(Fault::NoWebhooks) => Ok(Portal::NotThere),
            Ok((_, None)) => Err(Fault::Malformed),
            Err(fault) => Err(fault),
        }
    }
}

/// The link, if it is one that a browser may be sent to.
fn link(body: &str) -> Result<SecretString, Fault> {
    let Made { svix_url } = serde_json::from_str(body).map_err(|_| Fault::Malformed)?;
    let url = Url::parse(&svix_url).map_err(|_| Fault::Malformed)?;
    let is_local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let is_plain = svix_url.chars().all(|c| c.is_ascii_graphic());
    let may = url.scheme() == "https" || (url.scheme() == "http" && is_local);
    if may && is_plain { Ok(svix_url.into()) } else { Err(Fault::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_an_address_that_a_browser_may_open() {
        let check = |url: &str, is_link: bool| {
            let body = serde_json::json!({ "svix_url": url }).to_string();
            assert_eq!(link(&body).is_ok(), is_link, "{url}");
        };
        check("https://app.svix.com/login?primaryColor=6c47ff#key=eyJ", true);
        check("http://127.0.0.1:8788/portal", true);
        check("http://app.svix.com/", false);
        check("javascript:alert(1)", false);
        check("file:///etc/passwd", false);
        check("https://app.svix.com/\u{1b}[2J", false);
        check("", false);
        for body in ["{}", "[]", "", "<html>", r#"{"svix_url":7}"#] {
            assert!(link(body).is_err(), "{body}");
        }
    }
}
