//! Writes into a store for as long as it lives, and says after each transaction that it is on disk. For the test that
//! kills it, and the one that gives it a damaged file.

use std::{error::Error, io::Write};

use trama_control_plane::store::{Change, Embedded, Settings, Store};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // As in a release build, where a panic is the end.
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    let path = std::env::args().nth(1).ok_or("usage: store_writer FILE")?;
    let store = Embedded::open(Settings::new(path, 1)).await?;
    let mut confirmed = std::io::stdout();
    loop {
        let number = store.stamp().await?.revision + 1;
        let changes = (0..8).map(|key| Change::put(format!("k{key}"), number.to_string())).collect();
        let stamp = store.transact(changes).await?;
        writeln!(confirmed, "{}", stamp.revision)?;
        if stamp.revision.is_multiple_of(16) {
            store.copy().await?;
        }
    }
}
