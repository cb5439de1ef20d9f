// Package mpaas sends pushes through Alibaba Cloud's mPaaS Message Push Service:
// PushSimple, PushTemplate, PushMultiple and PushBroadcast, version 2020-10-28.
//
// # Where a rule comes from
//
// Rules in this package carry a mark: [doc] the service's documentation, [sdk]
// read from an official SDK, [tested] measured against an official SDK's own
// requests, [inferred] our reading. None was tried against the live service.
//
//   - Parameters, their types, enumerations and limits: param.go, rules.go [doc].
//   - Wire names, the order of keys, maps as JSON texts, objects as dotted keys:
//     param.go, form.go [sdk], compared with recorded requests [tested].
//   - Signature ACS3-HMAC-SHA256: sign.go [tested].
//   - Throttled calls are told by their code, since their status is 400: answer.go
//     [doc]. That TimeLeft in the rate headers is in milliseconds is [inferred].
//   - Business errors come with HTTP 200 [inferred]; codes: answer.go [doc].
//   - Analytics and tag audiences: audience.go [inferred].
//
// # What we decided where the documents leave it open
//
//   - Names are taken in the documents' spelling (expiredSeconds) and the wire's
//     (ExpiredSeconds), never both for one parameter.
//   - Whole numbers may be written as JSON numbers or as strings of digits, for on
//     the wire they are the same. 3.0 and 3e0 are refused, and so is a number
//     where a string is due.
//   - Maps may be written as objects or as strings that hold one.
//   - appId, workspaceId, taskName, strategyType and strategyContent are columns of
//     the campaign and refused in a request, whatever they hold. Every call carries
//     StrategyType 0: the schedule is ours.
//   - msgKeys may be left out: the engine makes them. Those of an author are kept
//     as a part of them.
//   - Values of one target (templateKeyValue, extendedParams) can be sent by
//     mpaas.push_multiple alone. A target that has them in another channel makes
//     the call invalid: leaving them out would push the wrong text.
//   - Live Activity fields are taken with any delivery type, since the documents
//     list them among the parameters common to all pushes.
//
// # Outcomes
//
// The service documents no idempotency. A call whose fate is not certain is
// therefore unknown, and everything not named by the documents counts as
// uncertain: an HTML body, a result code that is not in the tables, an OK without
// PushResult.Success.
package mpaas
