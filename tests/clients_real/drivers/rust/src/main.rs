//! A client on rmcp, the Rust SDK; see tests/clients_real/scene.py.

use std::{
    error::Error,
    io::stdin,
    sync::{Arc, Mutex},
};

use rmcp::{
    ClientHandler, ServiceExt,
    model::{CallToolRequestParams, ProgressNotificationParam},
    service::{ClientInitializeError, NotificationContext, RoleClient, RunningService},
    transport::{
        StreamableHttpClientTransport,
        auth::{AuthClient, AuthorizationRequest, OAuthState},
        streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError},
    },
};
use serde_json::{Value, json};
use tokio::{sync::Notify, task::spawn_blocking};

const CALLBACK: &str = "http://127.0.0.1:33419/callback";

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Says a line of JSON and reads the answer, while connections go on being watched.
async fn ask(message: Value) -> Outcome<Value> {
    println!("{message}");
    let line = spawn_blocking(read_line).await??;
    Ok(serde_json::from_str(&line)?)
}

fn read_line() -> std::io::Result<String> {
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    Ok(line)
}

/// Keeps the progress that the server reports.
#[derive(Clone, Default)]
struct Steps {
    seen: Arc<Mutex<Vec<f64>>>,
    more: Arc<Notify>,
}

impl ClientHandler for Steps {
    async fn on_progress(
        &self,
        step: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.seen.lock().unwrap().push(step.progress);
        self.more.notify_one();
    }
}

type Session = RunningService<RoleClient, Steps>;

async fn call(session: &Session, name: &'static str, arguments: Value) -> Outcome<Value> {
    let steps = arguments["to"].as_u64().unwrap_or(0) as usize;
    let mut request = CallToolRequestParams::new(name);
    request.arguments = arguments.as_object().cloned();
    let result = session.call_tool(request).await?;
    let handler = session.service();
    // A notification is handled beside the answer that came after it.
    while handler.seen.lock().unwrap().len() < steps {
        handler.more.notified().await;
    }
    let progress = std::mem::take(&mut *handler.seen.lock().unwrap());
    let content = serde_json::to_value(&result.content)?;
    Ok(json!({"text": content[0]["text"], "progress": progress}))
}

/// Returns the challenge that an attempt without a token is answered with.
async fn challenge(url: &str) -> Outcome<String> {
    let transport = StreamableHttpClientTransport::from_uri(url);
    match Steps::default().serve(transport).await {
        Err(ClientInitializeError::TransportError { error, .. }) => {
            let refused: Option<&StreamableHttpError<reqwest::Error>> = error.error.downcast_ref();
            match refused.and_then(StreamableHttpError::auth_challenge) {
                Some(challenge) => Ok(challenge.to_owned()),
                None => Err(format!("no challenge: {}", error.error).into()),
            }
        }
        Err(other) => Err(other.into()),
        Ok(_) => Err("served without a token".into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let url = std::env::args().nth(1).ok_or("usage: driver URL")?;

    let request = AuthorizationRequest::new(CALLBACK)
        .with_client_name("The Rust SDK")
        .with_challenge(challenge(&url).await?);
    let mut state = OAuthState::new(url.as_str(), None).await?;
    state.start_authorization(request).await?;
    let arrived = ask(json!({"authorize": state.get_authorization_url().await?})).await?;
    state
        .handle_callback_url(arrived["callback"].as_str().ok_or("no callback")?)
        .await?;
    let manager = state.into_authorization_manager().ok_or("not authorized")?;
    let client = AuthClient::new(reqwest::Client::new(), manager);

    let connect = async || {
        let config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
        let transport = StreamableHttpClientTransport::with_client(client.clone(), config);
        Steps::default().serve(transport).await
    };
    let refresh = async || client.auth_manager.lock().await.refresh_token().await;

    let session = connect().await?;
    let mut tools: Vec<_> = session
        .list_all_tools()
        .await?
        .into_iter()
        .map(|tool| tool.name)
        .collect();
    tools.sort();
    let counted = call(&session, "count", json!({"to": 3})).await?;
    refresh().await?;
    let refreshed = call(&session, "whoami", json!({})).await?;
    session.cancel().await?;
    ask(json!({"restart": true})).await?;
    refresh().await?;
    let session = connect().await?;
    let again = call(&session, "whoami", json!({})).await?;
    session.cancel().await?;
    println!(
        "{}",
        json!({"done": {
            "tools": tools, "counted": counted, "refreshed": refreshed, "again": again,
        }})
    );
    Ok(())
}
