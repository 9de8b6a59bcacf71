//! The proxy's own promises, on a server that sends back what it is sent.
#![allow(clippy::disallowed_methods, reason = "measures how late an answer is")]

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use faircopy_testkit::proxy::{Cut, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

async fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listen");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    port
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.expect("connect")
}

#[tokio::test]
async fn it_forwards_and_ends_with_either_side() {
    let proxy = Proxy::to(echo().await).await;
    let mut client = connect(&proxy).await;
    let sent = vec![7; 300_000];
    let (mut from, mut to) = client.split();
    let mut received = Vec::new();
    let writing = async {
        to.write_all(&sent).await.expect("write");
        to.shutdown().await.expect("end");
    };
    let (_, read) = tokio::join!(writing, from.read_to_end(&mut received));
    read.expect("a clean end");
    assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
    assert_eq!(proxy.cuts(), 0);
}

#[tokio::test]
async fn it_cuts_with_a_reset_after_exactly_so_many_bytes() {
    for cut in [Cut::ToServer(5), Cut::ToClient(5)] {
        let proxy = Proxy::to(echo().await).await;
        proxy.cut_by(move || Some(cut));
        let mut client = connect(&proxy).await;
        client.write_all(b"123456789").await.expect("write");
        let mut received = Vec::new();
        let error = client.read_to_end(&mut received).await.expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{cut:?}");
        // What the server sends back while the connection is cut may be lost, and nothing may be added.
        assert!(b"12345".starts_with(&received), "{cut:?}: {received:?}");
        assert_eq!(proxy.cuts(), 1);
        proxy.cut_by(|| None);
        let mut next = connect(&proxy).await;
        next.write_all(b"whole").await.expect("write");
        let mut received = [0; 5];
        next.read_exact(&mut received).await.expect("whole again");
    }
}

#[tokio::test]
async fn what_comes_back_is_as_late_as_it_is_told() {
    let delay = Duration::from_millis(200);
    let proxy = Proxy::to(echo().await).await;
    let mut client = connect(&proxy).await;
    for (delay, least) in [(delay, delay), (Duration::ZERO, Duration::ZERO)] {
        proxy.delay(delay);
        let start = Instant::now();
        client.write_all(b"?").await.expect("write");
        client.read_exact(&mut [0]).await.expect("an answer");
        assert!(start.elapsed() >= least, "{:?} instead of {delay:?}", start.elapsed());
    }
}
