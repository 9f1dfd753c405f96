//! A door in front of the embedded cluster, which has neither users nor quotas: it answers some requests with the very refusals of
//! kube-apiserver.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::json;

/// Open, unless something is to be refused.
#[derive(Clone, Default)]
pub struct Gate {
    refusal: Arc<Mutex<Option<Refusal>>>,
}

struct Refusal {
    methods: Vec<Method>,
    path: String,
    message: String,
}

impl Refusal {
    /// Of a path that ends in a slash, the objects below it are meant, but not their subresources.
    fn is_about(&self, path: &str) -> bool {
        let below = path.strip_prefix(&self.path).filter(|_| self.path.ends_with('/'));
        path == self.path || below.is_some_and(|name| !name.contains('/'))
    }
}

/// The answer to what is forbidden, in these words.
pub fn forbidden(message: &str) -> Response<Body> {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 403,
        "reason": "Forbidden", "message": message });
    let answer = Response::builder().status(403).header("content-type", "application/json");
    answer.body(Body::from(status.to_string().into_bytes())).expect("an answer")
}

impl Gate {
    /// A client whose requests pass through the gate.
    pub fn through(&self, client: Client) -> Client {
        let refusal = Arc::clone(&self.refusal);
        let send = tower::service_fn(move |request: Request<Body>| {
            let refused = refusal.lock().unwrap().as_ref().and_then(|refusal| {
                let is_meant =
                    refusal.methods.contains(request.method()) && refusal.is_about(request.uri().path());
                is_meant.then(|| forbidden(&refusal.message))
            });
            let client = client.clone();
            async move {
                match refused {
                    Some(answer) => Ok(answer),
                    None => client.send(request).await,
                }
            }
        });
        Client::new(send, "default")
    }

    /// Forbids requests, in these words.
    pub fn forbid(&self, method: Method, path: String, message: String) {
        self.forbid_all(vec![method], path, message);
    }

    /// The same of several methods.
    pub fn forbid_all(&self, methods: Vec<Method>, path: String, message: String) {
        *self.refusal.lock().unwrap() = Some(Refusal { methods, path, message });
    }

    /// Lets everything pass again.
    pub fn open(&self) {
        *self.refusal.lock().unwrap() = None;
    }
}
