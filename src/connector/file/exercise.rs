//! Carries out all that a file does with a reply, for any file and any reply.

use serde_json::Value;

use super::FileConnector;
use super::details::Offered;
use super::fill::SlotScope;
use super::plan::{DetailsSource, RequestPlan};
use crate::connector::bounds;
use crate::connector::pages::PageReply;
use crate::connector::request::Request;

impl FileConnector {
    /// Every request of the file, including `before` requests.
    pub(super) fn requests(&self) -> Vec<&RequestPlan> {
        let searches = self.plan.searches.iter().map(|search| &search.request);
        let details = self
            .plan
            .details
            .iter()
            .filter_map(|part| match &part.source {
                DetailsSource::Request(list) => Some(&list.request),
                DetailsSource::Fixed(_) => None,
            });
        let whoami = self.plan.whoami.iter().map(|whoami| &whoami.request);
        let all = searches.chain(details).chain(whoami);
        all.flat_map(|request| {
            let before = request.before.iter().map(|before| &before.request);
            before.chain([request])
        })
        .collect()
    }

    /// Reads a reply to each of the requests. Whatever it is, it does no harm.
    pub(crate) fn read_in_every_way(&self, reply: &Value) {
        self.read_records(reply);
        self.read_pages(reply);
        self.read_details(reply);
        if let Some(whoami) = &self.plan.whoami {
            let _ = whoami.identity(reply);
        }
    }

    fn read_records(&self, reply: &Value) {
        for search in &self.plan.searches {
            let entries = search.request.list.entries(&mut reply.clone());
            let items = entries.map_or_else(|_| vec![reply.clone()], |entries| entries.items);
            let _ = search.has_columns(&items);
            for item in &items {
                let mut record = search.record(&SlotScope::default(), item, &self.plan.kept);
                if bounds::record(&mut record) {
                    assert!(!record.contact.id.trim().is_empty());
                    assert!(record.phones.len() <= 100);
                }
            }
        }
    }

    /// A page that cannot be determined is an error, and nothing else happens.
    fn read_pages(&self, reply: &Value) {
        for pager in self
            .requests()
            .into_iter()
            .filter_map(|plan| plan.pager.as_ref())
        {
            let first = Request::get(&["a"], &[]);
            let page = PageReply {
                body: reply,
                link: None,
                entries: 1,
            };
            let _ = pager.next(&first, page);
        }
    }

    fn read_details(&self, reply: &Value) {
        for part in &self.plan.details {
            let DetailsSource::Request(list) = &part.source else {
                continue;
            };
            let entries = list.request.list.entries(&mut reply.clone());
            let rows = entries.map_or_else(|_| vec![reply.clone()], |entries| entries.items);
            let choices = rows
                .iter()
                .filter_map(|row| list.choice(&SlotScope::default(), row));
            let choices: Vec<Value> = choices.collect();
            assert!(choices.iter().all(Value::is_object));
            let mut offered = Offered::default();
            offered.add_new(&choices);
            assert!(offered.choices.len() <= choices.len());
        }
    }
}
