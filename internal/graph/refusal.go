package graph

import (
	"errors"
	"net/http"
	"strings"
)

// refusal is what it means that a user's history was refused.
type refusal int

const (
	noRefusal refusal = iota
	unlicensed
	forbidden
	unsupported
)

// refusalOf reads a status and what Graph said with it. Graph sends one code, Forbidden or NotFound, for several causes, so
// only its words tell them apart.
func refusalOf(status int, message string) refusal {
	said := strings.ToLower(message)
	switch {
	case status == http.StatusNotFound && strings.Contains(said, "requested api is not supported"):
		return unsupported
	case status == http.StatusNotFound, status == http.StatusForbidden && strings.Contains(said, "valid copilot license"):
		return unlicensed
	case status == http.StatusForbidden:
		return forbidden
	default:
		return noRefusal
	}
}

func refusalIn(err error) refusal {
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		return noRefusal
	case e.refusal != noRefusal:
		return e.refusal
	default:
		return refusalOf(e.Status, e.Message)
	}
}

// Unlicensed tells of an error of History that this one user has no history: no Copilot license (403), or not known and
// without a mailbox (404). Such a user counts as read.
func Unlicensed(err error) bool { return refusalIn(err) == unlicensed }

// Forbidden tells that Graph refused (403) for another reason than the user's license: a missing permission or consent.
func Forbidden(err error) bool { return refusalIn(err) == forbidden }

// Unsupported tells that this installation of Graph does not have the call at all, whoever is asked for: a cloud without
// Copilot, or a wrong graph.endpoint. It is a 404 that says nothing about a user.
func Unsupported(err error) bool { return refusalIn(err) == unsupported }
