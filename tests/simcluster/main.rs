#[path = "../support/kubernetes.rs"]
mod kubernetes;

#[test]
fn starts() {
    kubernetes::runtime().block_on(async {
        let Some(k) = kubernetes::shared().await else {
            println!("skipped");
            return;
        };
        let c = k.client("x").await.unwrap();
        println!("{:?}", c.apiserver_version().await.unwrap());
        println!("{}", k.kubeconfig().display());
    });
}
