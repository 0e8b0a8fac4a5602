//! `meshfed get` and `describe`.

use crate::args::{DescribeArgs, GetArgs};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::output::Ui;
use crate::render::{resource as screen, service};
use api::resource::Kind;
use api::rest::change::ResourceList;
use api::rest::link::{LinkList, LinkView};
use api::rest::service::{ServiceList, ServiceView};
use api::suggest::nearest;
use model::service::ServiceName;

/// Words for what has a view of its own; other words name kinds of resources.
const VIEWS: [&str; 5] = ["services", "links", "peers", "workloads", "policies"];

/// Lists.
///
/// # Errors
/// There is no such kind or name, or the site does not answer.
pub async fn get(args: &GetArgs, client: &Client, ui: &Ui) -> Outcome {
    let kind = args.kind.to_ascii_lowercase();
    match (kind.as_str(), &args.name) {
        ("service" | "services" | "svc", None) => {
            let list: ServiceList = client.get("/v1/services").await?;
            ui.result(&list, |style| service::table(&list.services, style))
        }
        ("service" | "services" | "svc", Some(name)) => {
            let view = one_service(client, name).await?;
            ui.result(&view, |style| service::table(std::slice::from_ref(&view), style))
        }
        ("link" | "links" | "peer" | "peers", None) => {
            let list: LinkList = client.get("/v1/links").await?;
            ui.result(&list, |style| screen::links(&list.links, style))
        }
        ("link" | "links" | "peer" | "peers", Some(name)) => {
            let link = one_link(client, name).await?;
            ui.result(&link, |style| screen::links(std::slice::from_ref(&link), style))
        }
        (word, name) => resources(word, name.as_deref(), client, ui).await,
    }
}

async fn resources(word: &str, name: Option<&str>, client: &Client, ui: &Ui) -> Outcome {
    let kinds = if matches!(word, "policy" | "policies") {
        vec![Kind::FailoverPolicy, Kind::AccessPolicy]
    } else {
        vec![word.parse::<Kind>().map_err(|_| unknown_kind(word))?]
    };
    let mut list = ResourceList::default();
    for kind in kinds {
        let part: ResourceList = client.get(&format!("/v1/resources/{}", kind.as_str())).await?;
        list.items.extend(part.items);
    }
    if let Some(name) = name {
        list.items.retain(|resource| {
            let key = resource.key();
            let full =
                key.namespace.map_or_else(String::new, |namespace| format!("{namespace}/{}", key.name));
            key.name.as_str() == name || full == name
        });
        if list.items.is_empty() {
            return Err(Failure::new(format!("{} has no {word} `{name}`", client.name))
                .fix(format!("see all with `meshfed get {word} --context {}`", client.name)));
        }
    }
    ui.result(&list, |style| screen::table(&list.items, style))
}

fn unknown_kind(word: &str) -> Failure {
    let kinds = Kind::ALL.map(|kind| kind.as_str().to_ascii_lowercase());
    let known: Vec<&str> = VIEWS.iter().copied().chain(kinds.iter().map(String::as_str)).collect();
    let help = nearest(word, known.iter().copied()).map_or_else(
        || format!("use one of {}", known.join(", ")),
        |meant| format!("did you mean `{meant}`?"),
    );
    Failure::usage(format!("there is nothing that is called `{word}`")).fix(help)
}

async fn one_service(client: &Client, name: &str) -> Result<ServiceView, Failure> {
    let service: ServiceName =
        name.parse().map_err(|e: model::ids::InvalidId| Failure::usage(e.to_string()))?;
    client.get(&format!("/v1/services/{}/{}", service.namespace, service.name)).await
}

async fn one_link(client: &Client, name: &str) -> Result<LinkView, Failure> {
    let list: LinkList = client.get("/v1/links").await?;
    let names: Vec<String> = list.links.iter().map(|link| link.site.clone()).collect();
    list.links.into_iter().find(|link| link.site == name).ok_or_else(|| {
        let meant = nearest(name, names.iter().map(String::as_str));
        let help = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if names.is_empty() => "link it with `meshfed link`".to_owned(),
            None => format!("links are {}", names.join(", ")),
        };
        Failure::new(format!("{} is not linked with `{name}`", client.name)).fix(help)
    })
}

/// Everything of one thing.
///
/// # Errors
/// There is no such kind or name, or the site does not answer.
pub async fn describe(args: &DescribeArgs, client: &Client, ui: &Ui) -> Outcome {
    match args.kind.to_ascii_lowercase().as_str() {
        "service" | "services" | "svc" => {
            let view = one_service(client, &args.name).await?;
            ui.result(&view, |style| service::describe(&view, style))
        }
        "link" | "links" | "peer" | "peers" => {
            let link = one_link(client, &args.name).await?;
            ui.result(&link, |style| screen::link(&link, style))
        }
        other => {
            let help = nearest(other, ["service", "link", "peer"])
                .map_or_else(|| "use service or link".to_owned(), |meant| format!("did you mean `{meant}`?"));
            Err(Failure::usage(format!("there is no description of a `{other}`")).fix(help))
        }
    }
}
