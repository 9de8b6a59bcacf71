//! Deliveries: endpoints, messages, and the attempts to deliver them.
