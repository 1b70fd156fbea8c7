//! A real node behind TLS.

use std::sync::Arc;

use drover::{
    domain::node::ProbeFault,
    ollama,
    ports::{NodeApi, NodeError},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{
    parts::{Scratch, gguf::TinyLlama, ollama::Ollama},
    support::{FakeNode, World, plain, table},
};

/// Takes TLS off in front of this address; where it listens, and the certificate of who signed for it.
async fn front(behind: String) -> (String, CertificateDer<'static>) {
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![own.der().clone()], key).unwrap();
    let (tls, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, behind) = (tls.clone(), behind.clone());
            tokio::spawn(async move {
                // A client that doesn't trust us hangs up here.
                let Ok(mut outside) = tls.accept(stream).await else { return };
                let mut inside = TcpStream::connect(behind).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut outside, &mut inside).await);
            });
        }
    });
    (url, authority.der().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_behind_tls_answers_those_who_trust_its_certificate_and_others_are_told_why_not() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = Scratch::new();
    let node = Ollama::start("n1", dir.path()).await;
    let gguf = dir.join("model.gguf");
    TinyLlama::new(1).says("Hello through TLS.").write(&gguf).unwrap();
    node.create("bot:1", &gguf).await;
    let (url, root) = front(node.url().trim_start_matches("http://").to_owned()).await;

    let trusting = ollama::Ollama::trusting(vec![root]).unwrap();
    assert_eq!(trusting.probe(&url).await.unwrap().models.len(), 1);
    let stranger = ollama::Ollama::new().unwrap();
    assert_eq!(stranger.probe(&url).await, Err(ProbeFault::Tls));
    assert!(ProbeFault::Tls.advice().contains("node-ca-file"));
    assert!(matches!(stranger.copy(&url, "bot:1", "bot:2").await, Err(NodeError::Connect(_))));

    let mut target = plain("bot:1", &[&FakeNode::start("n1").await]);
    let mut entry = (*target.holders[0].node).clone();
    entry.url = url;
    target.holders[0].node = entry.into();
    for (client, status) in [(trusting, 200), (stranger, 502)] {
        let world = World::start_through(table(None, &[target.clone()]), client).await;
        let asked = json!({ "model": "bot:1", "messages": [{ "role": "user", "content": "Hi" }], "stream": true });
        for _ in 0..2 {
            let answer = world.post("/api/chat", &asked).await;
            assert_eq!(answer.status, status, "{}", answer.text);
            match status {
                200 => assert_eq!(answer.content(), "Hello through TLS."),
                _ => assert!(answer.text.contains("certificate"), "{}", answer.text),
            }
        }
    }
}
