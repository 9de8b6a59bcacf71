//! A webhook of the application's own: one signed POST for each change (Standard Webhooks). Any 2xx takes it.
//!
//! Signed with every secret that is set, under both names of the headers: libraries of either kind verify what arrives.

use faircopy_core::Millis;
use faircopy_core::courier::{Closed, Pass, Reply};
use faircopy_core::destination::Answer;
use faircopy_core::signature::{SVIX_HEADERS, Secret, WEBHOOK_HEADERS};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret as _;
use tracing::Instrument as _;

use super::{Calling, Carried, Parcel, Unfit, judge};
use crate::config::DestinationSettings;
use crate::telemetry::Metrics;
use crate::upstream::exchange::{self, Fault};

pub(super) struct Webhook {
    client: reqwest::Client,
    url: Url,
    name: String,
    secrets: Vec<Secret>,
    metrics: Metrics,
}

impl Webhook {
    pub(super) fn new(settings: &DestinationSettings, secrets: Vec<Secret>, metrics: Metrics) -> Option<Self> {
        let url = Url::parse(settings.url.expose_secret()).ok()?;
        let at_once = faircopy_core::courier::MAX_AT_ONCE;
        match exchange::client_within(&url, HeaderMap::new(), at_once, settings.allow_private) {
            Ok(client) => Some(Self { client, url, name: settings.name.clone(), secrets, metrics }),
            Err(error) => {
                tracing::error!(%error, destination = settings.name, "it can never be told: there is no TLS");
                None
            }
        }
    }

    /// Whether anything answers at the address. Asked with `HEAD`, which must change nothing anywhere; so what it answers says little.
    pub(super) async fn check(&self) -> Result<String, Unfit> {
        let status = match exchange::exchange(self.client.head(self.url.clone()), 0, |_| false).await {
            Ok(answer) => answer.status.as_u16(),
            Err(Fault::Refused(status)) => status,
            Err(Fault::Limited { .. }) => StatusCode::TOO_MANY_REQUESTS.as_u16(),
            Err(fault) => return Err(fault.into()),
        };
        Ok(format!("answers {status} to HEAD"))
    }

    pub(super) async fn carry(&self, parcels: &[Parcel], calling: Calling<'_>) -> Carried {
        let mut answers = vec![Answer::Unsaid; parcels.len()];
        let mut trouble = None;
        let mut under_way = FuturesUnordered::new();
        let mut waiting = parcels.iter().enumerate().peekable();
        loop {
            // Somebody who takes nothing is not sent more.
            while trouble.is_none() && waiting.peek().is_some() && !calling.is_late() {
                match calling.gate.begin(under_way.len(), calling.clock.now()) {
                    Ok(pass) => {
                        let now = calling.clock.now();
                        under_way.extend(waiting.next().map(|(at, parcel)| self.send(at, parcel, pass, now)));
                    }
                    Err(Closed::Busy | Closed::Until(_)) => break,
                }
            }
            let Some((at, pass, sent)) = under_way.next().await else { break };
            let (reply, answer) = match sent {
                Ok(()) => (Reply::Confirmed, Answer::Taken),
                Err(fault) => {
                    let (reply, answer) = judge(fault);
                    if answer == Answer::Unsaid {
                        trouble = Some(fault.to_string());
                    }
                    (reply, answer)
                }
            };
            calling.gate.end(pass, reply, calling.clock.now(), (calling.chance)());
            answers[at] = answer;
        }
        Carried { answers, trouble }
    }

    async fn send(&self, at: usize, parcel: &Parcel, pass: Pass, now: Millis) -> (usize, Pass, Result<(), Fault>) {
        let seconds = now.0.div_euclid(1000);
        let sign = |secret: &Secret| secret.sign(&parcel.id, seconds, parcel.body.as_bytes());
        let signatures = self.secrets.iter().map(sign).collect::<Vec<_>>().join(" ");
        let mut request =
            self.client.post(self.url.clone()).header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for [id, timestamp, signature] in [WEBHOOK_HEADERS, SVIX_HEADERS] {
            request = request.header(id, &parcel.id).header(timestamp, seconds).header(signature, &signatures);
        }
        // Its status says everything: the body of an answer is never read.
        let span = exchange::span("destination", &self.name);
        let answer = exchange::exchange(request.body(parcel.body.clone()), 0, |_| false).instrument(span.clone()).await;
        let status = answer.as_ref().map_or_else(Fault::kind, |answer| exchange::label(answer.status));
        exchange::ended(&span, status, answer.is_ok());
        self.metrics.destination_request(&self.name, status);
        let sent = match answer {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(Fault::Status(answer.status.as_u16())),
            Err(fault) => Err(fault),
        };
        (at, pass, sent)
    }
}
