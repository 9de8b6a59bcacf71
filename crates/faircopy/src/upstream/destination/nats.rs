//! A NATS JetStream: a message for each change, its id for the stream's own removal of duplicates, each acknowledged.
//!
//! Messages of one batch are about different subjects of the copy, and the next batch comes when all of them are acknowledged: so none
//! comes out of order. Nothing is sent while there is no connection: what waited in a buffer would arrive out of its turn.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, connection};
use faircopy_core::courier::Reply;
use faircopy_core::destination::Answer;
use futures_util::future::join_all;
use reqwest::Url;
use secrecy::ExposeSecret as _;

use super::{Calling, Carried, Parcel, Unfit};
use crate::config::{DestinationKind, DestinationSettings};
use crate::telemetry::Metrics;
use crate::upstream::address::is_public;
use crate::upstream::exchange::{Fault, NO_CONNECTION};

/// How long making the connection may take (faults.md).
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// How long an acknowledgement may take: the whole of a deadline for calls outside (faults.md) is for a batch.
const ACK_DEADLINE: Duration = Duration::from_secs(8);
/// The pause between two attempts to connect again: a server that restarts is there within seconds.
const RECONNECT: Duration = Duration::from_millis(500);
/// The port of NATS.
const DEFAULT_PORT: u16 = 4222;

pub(super) struct Nats {
    settings: DestinationSettings,
    metrics: Metrics,
    connected: Option<(Client, Context)>,
}

/// Why a message was not acknowledged.
enum NotTaken {
    /// It can never be.
    TooLarge,
    /// The server or the stream does not take anything.
    Away(String),
}

impl Nats {
    pub(super) fn new(settings: DestinationSettings, metrics: Metrics) -> Self {
        Self { settings, metrics, connected: None }
    }

    /// Whether the server answers, and a stream takes the subjects.
    pub(super) async fn check(&mut self) -> Result<String, Unfit> {
        let (prefix, stream) = self.place();
        let (prefix, stream) = (prefix.to_owned(), stream.map(ToOwned::to_owned));
        let (client, context) = self.connect().await?;
        let version = client.server_info().version;
        let found = match stream {
            Some(stream) => context.get_stream(&stream).await.map(|_| stream).map_err(drop),
            None => context.stream_by_subject(format!("{prefix}.user.put")).await.map_err(drop),
        };
        match found {
            Ok(stream) => Ok(format!("NATS {version}, stream `{stream}`")),
            Err(()) => Err(Unfit::Incomplete(format!("no stream takes `{prefix}.>`"))),
        }
    }

    pub(super) async fn carry(&mut self, parcels: &[Parcel], calling: Calling<'_>) -> Carried {
        let mut carried = Carried { answers: vec![Answer::Unsaid; parcels.len()], trouble: None };
        let Ok(pass) = calling.gate.begin(0, calling.clock.now()) else { return carried };
        let name = self.settings.name.clone();
        let reply = match self.publish(parcels).await {
            Ok(acknowledged) => {
                for (answer, result) in carried.answers.iter_mut().zip(acknowledged) {
                    *answer = match result {
                        Ok(()) => Answer::Taken,
                        Err(NotTaken::TooLarge) => {
                            let error = "it is larger than the server or the stream takes".to_owned();
                            Answer::Failed { is_for_good: true, retry_after_ms: None, error }
                        }
                        Err(NotTaken::Away(error)) => {
                            carried.trouble = carried.trouble.take().or(Some(error));
                            Answer::Unsaid
                        }
                    };
                }
                if carried.trouble.is_some() { Reply::Failed } else { Reply::Confirmed }
            }
            Err(fault) => {
                carried.trouble = Some(fault.to_string());
                if matches!(fault, Fault::Refused(_)) { Reply::Refused } else { Reply::Failed }
            }
        };
        let status = if reply == Reply::Confirmed { "2xx" } else { "failed" };
        self.metrics.destination_request(&name, status);
        calling.gate.end(pass, reply, calling.clock.now(), (calling.chance)());
        carried
    }

    async fn publish(&mut self, parcels: &[Parcel]) -> Result<Vec<Result<(), NotTaken>>, Fault> {
        let (prefix, stream) = self.place();
        let (prefix, stream) = (prefix.to_owned(), stream.map(ToOwned::to_owned));
        let (_, context) = self.connect().await?;
        let mut sent = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let subject = format!("{prefix}.{}.{}", parcel.entity, parcel.operation);
            let mut message = PublishMessage::build().message_id(&parcel.id).payload(parcel.body.clone().into());
            if let Some(stream) = &stream {
                message = message.expected_stream(stream);
            }
            sent.push(context.send_publish(subject, message).await);
        }
        let acknowledged = sent.into_iter().map(|sent| async {
            match sent {
                Ok(acknowledgement) => acknowledgement.await.map(drop),
                Err(error) => Err(error),
            }
        });
        Ok(join_all(acknowledged).await.into_iter().map(|result| result.map_err(|error| not_taken(&error))).collect())
    }

    fn place(&self) -> (&str, Option<&str>) {
        match &self.settings.kind {
            DestinationKind::Nats { subject_prefix, stream, .. } => (subject_prefix, stream.as_deref()),
            DestinationKind::Webhook { .. } | DestinationKind::Convex { .. } => ("", None),
        }
    }

    /// The connection, made when it is first needed. While it is away, it comes back by itself.
    async fn connect(&mut self) -> Result<(Client, Context), Fault> {
        if let Some((client, context)) = &self.connected {
            return match client.connection_state() {
                connection::State::Connected => Ok((client.clone(), context.clone())),
                connection::State::Pending | connection::State::Disconnected => Err(Fault::Unreachable(NO_CONNECTION)),
            };
        }
        let DestinationKind::Nats { token, credentials_file, .. } = &self.settings.kind else {
            return Err(Fault::Unnameable);
        };
        let url = Url::parse(self.settings.url.expose_secret()).map_err(|_| Fault::Unnameable)?;
        if !self.settings.allow_private {
            guard(&url).await?;
        }
        // Servers that this one names may be anywhere: only the configured one is asked.
        let mut options = ConnectOptions::new()
            .name("faircopy")
            .ignore_discovered_servers()
            .connection_timeout(CONNECT_DEADLINE)
            .reconnect_delay_callback(|_| RECONNECT)
            .require_tls(url.scheme() == "tls");
        if let Some(token) = token {
            options = options.token(token.expose_secret().to_owned());
        }
        if let Some(file) = credentials_file {
            options = options.credentials_file(file).await.map_err(|_| Fault::Unnameable)?;
        }
        let client = options.connect(url.as_str()).await.map_err(|error| match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Fault::Refused(401),
            _ => Fault::Unreachable(NO_CONNECTION),
        })?;
        let context = jetstream::ContextBuilder::new().timeout(ACK_DEADLINE).build(client.clone());
        Ok(self.connected.insert((client, context)).clone())
    }
}

/// Refuses a name that leads to an address that is not public.
async fn guard(url: &Url) -> Result<(), Fault> {
    let host = url.host_str().ok_or(Fault::Unnameable)?.trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((host, url.port().unwrap_or(DEFAULT_PORT))).await;
    let found: Vec<SocketAddr> = found.map_err(|_| Fault::Unreachable(NO_CONNECTION))?.collect();
    if found.iter().all(|address| is_public(address.ip())) { Ok(()) } else { Err(Fault::Forbidden) }
}

fn not_taken(error: &PublishError) -> NotTaken {
    let code =
        error.source().and_then(|source| source.downcast_ref::<jetstream::Error>()).map(jetstream::Error::error_code);
    let away = |text: &str| NotTaken::Away(text.to_owned());
    match (error.kind(), code) {
        (PublishErrorKind::MaxPayloadExceeded, _) | (_, Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM)) => {
            NotTaken::TooLarge
        }
        (PublishErrorKind::StreamNotFound, _) => away("no stream takes these subjects"),
        (PublishErrorKind::TimedOut, _) => away("no acknowledgement in time"),
        (PublishErrorKind::BrokenPipe, _) => away("the connection broke off"),
        (_, Some(code)) => NotTaken::Away(format!("the stream refuses it (error {})", code.0)),
        (_, None) => away("it was not acknowledged"),
    }
}
