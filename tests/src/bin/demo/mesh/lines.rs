//! Command lines that a reader can type, in another terminal or after the demo.

use super::{EXPLICIT, HOST, METRICS, Mesh};
use crate::failure::Result;
use crate::files;
use crate::process;
use crate::world::Pod;

impl Mesh {
    /// Command lines of `tramactl` that make each sidecar's join token.
    pub(crate) fn token_lines(&self) -> [String; 3] {
        self.pods().map(|pod| {
            let folder = self.folder.path();
            let [roots, token] =
                [files::roots(folder), files::token(folder, pod)].map(|file| process::word(&file));
            let id = files::identity(pod);
            self.control.line(&format!("join-token create --spiffe-id {id} --bundle {roots} > {token}"))
        })
    }

    /// A file of the demo's, as one word of a command line.
    pub(crate) fn file(&self, name: &str) -> String {
        process::word(&self.folder.path().join(name))
    }

    /// Command lines for the other terminal, as far as they work at this moment.
    pub(crate) fn hints(&self) -> Vec<String> {
        let mut hints = vec![
            self.curl_in(&self.storefront, ""),
            self.curl_in(&self.storefront, r#"-d '{"item":"tea"}' "#),
            format!("{}curl -sSf http://{}/metrics", self.storefront.prefix(), self.storefront.at(METRICS)),
        ];
        if self.control.is_alive() {
            hints.push(self.control.line("status"));
            if self.is_traced {
                hints.push(self.control.line("trace list --limit 3"));
            }
        }
        hints
    }

    /// A command line that asks for orders through the sidecar of a region's application.
    pub(crate) fn hint_in(&self, region: &str) -> String {
        self.curl_in(self.orders_in(region), "")
    }

    fn curl_in(&self, pod: &Pod, more: &str) -> String {
        let target = match self.world.service().first() {
            Some(address) => format!("http://{address}/orders"),
            None => format!("-H 'Host: {HOST}' http://{}/orders", pod.at(EXPLICIT)),
        };
        format!("{}curl -sSif {more}{target}", pod.prefix())
    }

    /// Runs such a line; whether it worked, and the first line of what it printed.
    pub(crate) async fn try_hint(&self, hint: &str) -> Result<(bool, String)> {
        let ran = process::run(hint).await?;
        Ok((ran.worked() && !ran.out.is_empty(), ran.first_line().to_owned()))
    }
}
