//! ServiceAccounts.

use jiff::Timestamp;
use k8s_openapi::api::core;
use serde_json::{Value, json};

use super::{open_api, read};
use crate::apiserver::object::Object;
use crate::apiserver::resource::{Read, ReadError, Rules};
use crate::apiserver::table::{Column, age};

const GO_TYPE: &str = "io.k8s.api.core.v1.ServiceAccount";

pub(super) struct ServiceAccountRules;

impl Rules for ServiceAccountRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "v1", |_| {})
    }

    fn delete_answers_object(&self) -> bool {
        true
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<core::v1::ServiceAccount>()
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::age()]
    }

    fn cells(&self, account: &Value, now: Timestamp) -> Vec<Value> {
        vec![json!(account.name()), age(account, now)]
    }
}
