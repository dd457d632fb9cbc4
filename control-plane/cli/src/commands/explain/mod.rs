//! `explain`: why a request would go where it would go, or those of a trace went.

mod trace;

use clap::Args;
use trama_proto::{
    admin::v1::{ExplainRequest, ExplainResponse, Unheard},
    discovery::v1::Node,
    spiffe::SpiffeId,
};
use trama_sidecar::explain::Description;

use crate::{
    arguments::{Global, Namespace, spiffe_id, trace_id},
    client::Client,
    exit::Exit,
    failure::Failure,
    output::printable,
    reference,
};

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// What is asked for, such as `http://orders.shop/v1/orders?limit=1`; with --address a path alone will do.
    #[arg(required_unless_present = "trace")]
    url: Option<String>,
    /// The sidecar that would send it, or with --application the one that it would come in to: NAME or NAMESPACE/NAME, as `proxy list` shows them.
    #[arg(long, value_name = "SIDECAR", group = "sender")]
    from: Option<String>,
    /// The workload that would send it: its sidecars are asked until one answers, or policy alone where none does.
    #[arg(long, value_name = "SPIFFE_ID", value_parser = spiffe_id, group = "sender")]
    workload: Option<SpiffeId>,
    /// The service whose workload would send it: likewise.
    #[arg(long, value_name = "NAME", group = "sender")]
    service: Option<String>,
    /// The region that it would come from. Needed where no sidecar is connected and the workload runs in several.
    #[arg(long, conflicts_with = "from")]
    region: Option<String>,
    /// Tells why the requests of this trace went where they went: its id, 32 hexadecimal digits.
    #[arg(
        long, value_name = "ID", value_parser = trace_id,
        conflicts_with_all = ["url", "sender", "region", "description"]
    )]
    trace: Option<String>,
    #[command(flatten)]
    description: Description,
    #[command(flatten)]
    within: Namespace,
}

impl Explain {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        if let Some(id) = self.trace {
            let explained = Client::connect(global).await?.explain_trace(id).await?;
            global.output.print(&explained, trace::table)?;
            return Ok(Exit::Done);
        }
        let request = self.request()?;
        let told = Client::connect(global).await?.explain(request).await?;
        global.output.print(&told, table)?;
        Ok(Exit::Done)
    }

    fn request(self) -> Result<ExplainRequest, Failure> {
        let Self { url, from, workload, service, region, description, within, .. } = self;
        let within = within.namespace.as_deref();
        if from.is_none() && workload.is_none() && service.is_none() {
            let problem =
                "who would send the request? Say --from SIDECAR, --workload SPIFFE_ID or --service NAME";
            return Err(Failure::Usage(problem.to_owned()));
        }
        let sidecar = from.map(|name| reference::sidecar(within, &name)).transpose()?;
        let service = service.map(|name| reference::label("Service", within, &name)).transpose()?;
        Ok(ExplainRequest {
            request: Some(description.of(url.unwrap_or_default())),
            sidecar: sidecar.unwrap_or_default(),
            workload: workload.map(|id| id.to_string()).unwrap_or_default(),
            service: service.unwrap_or_default(),
            region: region.unwrap_or_default(),
        })
    }
}

fn table(told: &ExplainResponse) -> String {
    let ExplainResponse { explanation, sidecar, others, by_policy, unheard } = told;
    let mut text = match (sidecar, by_policy.as_str()) {
        (Some(node), "") => format!("as the sidecar {} says", who(node)),
        (Some(node), why) => format!("by policy alone, as the sidecar {} would have it: {why}", who(node)),
        (None, why) => format!("by policy alone: {why}"),
    };
    match others {
        0 => {}
        1 => text += "; another one could send it too",
        many => text += &format!("; {many} others could send it too"),
    }
    let explanation = explanation.as_ref().map(ToString::to_string).unwrap_or_default();
    let vain = unheard.iter().map(|Unheard { sidecar, why }| format!("asked in vain: {sidecar}: {why}"));
    std::iter::once(text)
        .chain(vain)
        .chain(explanation.lines().map(str::to_owned))
        .fold(String::new(), |text, line| text + &printable(&line) + "\n")
}

/// Name, identity and region.
fn who(Node { namespace, name, identity, region, .. }: &Node) -> String {
    let region = if region.is_empty() { String::new() } else { format!(", {region}") };
    format!("{namespace}/{name} ({identity}{region})")
}

#[cfg(test)]
mod tests {
    use trama_proto::explain::v1::{Explanation, Outcome, outcome};

    use super::*;

    fn told() -> ExplainResponse {
        let outcome = Outcome {
            result: outcome::Result::Forwarded.into(),
            detail: "to 10.0.0.1:80\u{1b}[2J".to_owned(),
            ..Outcome::default()
        };
        let explanation =
            Explanation { request: "GET /".to_owned(), outcome: Some(outcome), ..Explanation::default() };
        let node = Node {
            namespace: "shop".to_owned(),
            name: "storefront-1".to_owned(),
            identity: "spiffe://mesh.example/ns/shop/sa/storefront".to_owned(),
            region: "sao-paulo".to_owned(),
            ..Node::default()
        };
        ExplainResponse { explanation: Some(explanation), sidecar: Some(node), ..ExplainResponse::default() }
    }

    #[test]
    fn the_first_line_says_who_knows_it_and_terminals_obey_nobody() {
        let first = |told: &ExplainResponse| table(told).lines().next().unwrap().to_owned();
        let who = "shop/storefront-1 (spiffe://mesh.example/ns/shop/sa/storefront, sao-paulo)";
        assert_eq!(first(&told()), format!("as the sidecar {who} says"));
        let page = include_str!("../../../../../docs/src/explain.md");
        assert!(
            page.contains(&format!("```text\nas the sidecar {who} says\n```")),
            "the book shows what is told"
        );
        let others = ExplainResponse { others: 2, ..told() };
        assert_eq!(first(&others), format!("as the sidecar {who} says; 2 others could send it too"));
        let nobody = ExplainResponse { sidecar: None, by_policy: "nobody is there".to_owned(), ..told() };
        assert_eq!(first(&nobody), "by policy alone: nobody is there");
        let old = ExplainResponse { by_policy: "it is old".to_owned(), others: 1, ..told() };
        assert_eq!(
            first(&old),
            format!(
                "by policy alone, as the sidecar {who} would have it: it is old; another one could send it too"
            )
        );
        let unheard =
            ["a", "b"].map(|name| Unheard { sidecar: name.to_owned(), why: "it is old".to_owned() });
        let vain = ExplainResponse { unheard: unheard.to_vec(), ..told() };
        let lines = format!(
            "as the sidecar {who} says\nasked in vain: a: it is old\nasked in vain: b: it is old\nGET /\n"
        );
        assert!(table(&vain).starts_with(&lines), "{}", table(&vain));
        assert!(table(&told()).contains("=> forwarded: to 10.0.0.1:80\\u{1b}[2J\n"));
    }
}
