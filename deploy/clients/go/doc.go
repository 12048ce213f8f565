// Package quorumwatch is the client of quorumwatch: subscriptions that resume automatically,
// and tables that copy the objects that exist.
//
// The messages are those of the protocol, in [quorumwatch.dev/client/quorumwatch/v1]. Package
// [quorumwatch.dev/client/sqlite] saves each event exactly once in a database.
package quorumwatch
