//! HTTP/1.1 (RFC 9110, 9112): heads, bodies, responses, and who may call.
