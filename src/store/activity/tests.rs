use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::clock::real_sleep;

/// An API server that answers with these codes, in turn, and then takes everything.
#[derive(Default)]
struct Server {
    answers: Mutex<Vec<u16>>,
    objects: Mutex<Vec<Value>>,
    requests: AtomicUsize,
}

impl Server {
    fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        let serve = move |request: http::Request<kube::client::Body>| {
            let server = Arc::clone(&server);
            async move {
                server.requests.fetch_add(1, Ordering::SeqCst);
                let (method, path) = (request.method().clone(), request.uri().path().to_owned());
                let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
                let (code, body) = server.answer(&method, &path, &body);
                let body = kube::client::Body::from(body.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(http::Response::builder().status(code).body(body).unwrap())
            }
        };
        Client::new(tower::service_fn(serve), "default")
    }

    fn answer(&self, method: &http::Method, path: &str, body: &[u8]) -> (u16, Value) {
        let failure = |code: u16, reason: &str, message: &str| {
            (
                code,
                json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message }),
            )
        };
        let next = {
            let mut answers = self.answers.lock().unwrap();
            if answers.is_empty() { None } else { Some(answers.remove(0)) }
        };
        match next {
            Some(403) => return failure(403, "Forbidden", "User \"x\" cannot create resource"),
            Some(code) if code >= 400 => return failure(code, "", ""),
            _ => {}
        }
        let mut objects = self.objects.lock().unwrap();
        match *method {
            http::Method::POST => {
                let mut object: Value = serde_json::from_slice(body).unwrap();
                let name = object["metadata"]["name"].clone();
                if objects.iter().any(|known| known["metadata"]["name"] == name) {
                    return failure(409, "AlreadyExists", "");
                }
                let second = object["data"]["time"].as_str().unwrap().parse::<Timestamp>().unwrap();
                object["metadata"]["creationTimestamp"] = json!(second);
                objects.push(object.clone());
                (201, object)
            }
            http::Method::DELETE => {
                objects.retain(|object| !path.ends_with(object["metadata"]["name"].as_str().unwrap()));
                (200, json!({ "kind": "Status", "status": "Success", "code": 200 }))
            }
            _ => {
                let list = json!({ "apiVersion": "apps/v1", "kind": "ControllerRevisionList", "metadata": {}, "items": *objects });
                (200, list)
            }
        }
    }
}

fn started(answers: Vec<u16>) -> (Arc<Server>, Activities, Metrics) {
    let server = Arc::new(Server { answers: Mutex::new(answers), ..Server::default() });
    let metrics = Metrics::default();
    let (activities, recording) = Activities::new(server.client(), metrics.clone());
    tokio::spawn(recording.run());
    (server, activities, metrics)
}

fn about() -> About {
    let labels = [("team".to_owned(), "shop".to_owned())].into();
    About { namespace: "shop".to_owned(), name: "web".to_owned(), uid: "1-2-3".to_owned(), labels }
}

fn activity(second: i64, verb: &str) -> Activity {
    Activity {
        time: Timestamp::from_second(second).unwrap(),
        actor: "me".to_owned(),
        verb: verb.to_owned(),
        source: "127.0.0.1".to_owned(),
        outcome: "OK".to_owned(),
        revision: 0,
        detail: String::new(),
    }
}

async fn verbs(activities: &Activities) -> Vec<String> {
    activities.flush().await;
    let list = activities.list(&about()).await.unwrap();
    list.into_iter().map(|recorded| recorded.activity.verb).collect()
}

fn lost(metrics: &Metrics) -> String {
    let text = metrics.text();
    let line = text.lines().find(|line| line.starts_with("rolloutd_activities_dropped_total"));
    line.unwrap().rsplit_once(' ').unwrap().1.to_owned()
}

#[tokio::test(start_paused = true)]
async fn what_was_done_is_read_newest_first() {
    let (server, activities, metrics) = started(vec![]);
    for (second, verb) in [(1, "a"), (3, "c"), (2, "b")] {
        activities.note(&about(), activity(second, verb));
    }
    assert_eq!(verbs(&activities).await, ["c", "b", "a"]);
    let object = server.objects.lock().unwrap()[0].clone();
    assert_eq!(object["metadata"]["labels"], json!({ "rolloutd.dev/activity-of": "1-2-3", "team": "shop" }));
    assert_eq!(
        object["metadata"]["ownerReferences"],
        json!([{ "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web", "uid": "1-2-3", "controller": true }])
    );
    assert_eq!(lost(&metrics), "0");
}

#[tokio::test(start_paused = true)]
async fn whoever_tells_of_a_generation_first_is_believed() {
    let (_, activities, metrics) = started(vec![]);
    activities.note_generation(&about(), 2, activity(1, "ScaleRollout"));
    activities.flush().await;
    activities.note_generation(&about(), 2, activity(6, "spec changed"));
    activities.note_generation(&about(), 3, activity(7, "spec changed"));
    assert_eq!(verbs(&activities).await, ["spec changed", "ScaleRollout"]);
    assert_eq!(lost(&metrics), "0");
}

#[tokio::test(start_paused = true)]
async fn the_same_refusal_is_told_once_a_minute() {
    let (_, activities, _) = started(vec![]);
    for _ in 0..5 {
        activities.note_refusal(&about(), activity(1, "a"));
    }
    activities.note_refusal(&about(), Activity { actor: "other".to_owned(), ..activity(2, "a") });
    real_sleep(Duration::from_secs(61)).await;
    activities.note_refusal(&about(), activity(62, "a"));
    assert_eq!(verbs(&activities).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn only_the_last_ones_of_a_rollout_are_kept_and_seldom_listed() {
    let (server, activities, _) = started(vec![]);
    for second in 0..250 {
        activities.note(&about(), activity(second, &second.to_string()));
        activities.flush().await;
    }
    assert_eq!(server.objects.lock().unwrap().len(), MOST);
    let kept = verbs(&activities).await;
    assert_eq!((kept.len(), kept[0].as_str(), kept[99].as_str()), (MOST, "249", "150"));
    // One creation each; a first look; and beyond the limit a look and a deletion each.
    assert_eq!(server.requests.load(Ordering::SeqCst), 250 + 1 + 150 * 2 + 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_delays_them_and_what_is_refused_is_lost_and_counted() {
    let (_, activities, metrics) = started(vec![503, 429, 500]);
    activities.note(&about(), activity(1, "a"));
    real_sleep(Duration::from_secs(4)).await;
    assert_eq!(verbs(&activities).await, ["a"]);
    assert_eq!(lost(&metrics), "0");
    let (_, activities, metrics) = started(vec![422]);
    activities.note(&about(), activity(1, "a"));
    assert_eq!(verbs(&activities).await, Vec::<String>::new());
    assert_eq!(lost(&metrics), "1");
    let (_, activities, metrics) = started(vec![503; 1000]);
    activities.note(&about(), activity(1, "a"));
    real_sleep(Duration::from_secs(600)).await;
    assert_eq!(lost(&metrics), "1", "it is given up after a while");
    activities.flush().await;
}

#[tokio::test(start_paused = true)]
async fn where_none_may_be_created_they_are_kept_in_memory() {
    let (server, activities, metrics) = started(vec![403]);
    for second in 0..3 {
        activities.note(&about(), activity(second, &second.to_string()));
        activities.flush().await;
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 1, "it is not asked again at once");
    server.answers.lock().unwrap().push(403);
    assert_eq!(verbs(&activities).await, ["2", "1", "0"]);
    assert_eq!(lost(&metrics), "0");
    real_sleep(Duration::from_secs(601)).await;
    activities.note(&about(), activity(700, "stored"));
    assert_eq!(verbs(&activities).await, ["stored", "2", "1", "0"]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_dropped_and_counted_and_nobody_waits() {
    let server = Arc::new(Server::default());
    let metrics = Metrics::default();
    let (activities, recording) = Activities::new(server.client(), metrics.clone());
    for second in 0..(QUEUE_LENGTH as i64 + 5) {
        activities.note(&about(), activity(second, "a"));
    }
    assert_eq!(lost(&metrics), "5");
    drop(recording);
    activities.note(&about(), activity(0, "a"));
    assert_eq!(lost(&metrics), "6");
}

#[tokio::test(start_paused = true)]
async fn parts_are_bounded() {
    let (_, activities, _) = started(vec![]);
    activities.note(&about(), Activity { detail: "ä".repeat(10_000), ..activity(1, "a") });
    activities.flush().await;
    let detail = activities.list(&about()).await.unwrap()[0].activity.detail.clone();
    assert_eq!((detail.chars().count(), detail.ends_with("ä…")), (LONGEST + 1, true));
}
