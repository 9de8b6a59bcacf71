//! Starts a private PostgreSQL cluster, prints its administrator's address, and stops it when standard input ends.
//!
//! `./test` gives all its tests this one cluster: `cargo run -p faircopy-testkit --example postgres`.

use std::io::Read as _;

use faircopy_testkit::postgres::Postgres;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let cluster = Postgres::start_with(&[("max_connections", "300")]).await;
    println!("{}", cluster.url());
    let mut ignored = Vec::new();
    std::io::stdin().read_to_end(&mut ignored).expect("read standard input");
}
