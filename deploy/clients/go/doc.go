// Package quorumwatch is the client of quorumwatch: subscriptions that resume by themselves, and
// what to do with their frames.
//
// The messages are those of the protocol, in [quorumwatch.dev/client/quorumwatch/v1]. A database
// that holds each event once is in [quorumwatch.dev/client/sqlite].
package quorumwatch
