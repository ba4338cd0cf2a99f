package graph

import (
	"errors"
	"net/http"
	"strings"
)

// denial is what it means that a user's history was refused.
type denial int

const (
	noDenial denial = iota
	unlicensed
	forbidden
	unsupported
)

// denialOf reads a status and what Graph said with it. Graph sends one code, Forbidden or NotFound, for several causes, so
// only its words tell them apart.
func denialOf(status int, message string) denial {
	said := strings.ToLower(message)
	switch {
	case status == http.StatusNotFound && strings.Contains(said, "requested api is not supported"):
		return unsupported
	case status == http.StatusNotFound, status == http.StatusForbidden && strings.Contains(said, "valid copilot license"):
		return unlicensed
	case status == http.StatusForbidden:
		return forbidden
	default:
		return noDenial
	}
}

func denialIn(err error) denial {
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		return noDenial
	case e.denial != noDenial:
		return e.denial
	default:
		return denialOf(e.Status, e.Message)
	}
}

// Unlicensed tells of an error of History that this one user has no history: no Copilot license (403), or not known and
// without a mailbox (404). Such a user counts as read.
func Unlicensed(err error) bool { return denialIn(err) == unlicensed }

// Forbidden tells that Graph refused (403) for another reason than the user's license: a missing permission or consent.
func Forbidden(err error) bool { return denialIn(err) == forbidden }

// Unsupported tells that this installation of Graph does not have the call at all, whoever is asked for: a cloud without
// Copilot, or a wrong graph.endpoint. It is a 404 that says nothing about a user.
func Unsupported(err error) bool { return denialIn(err) == unsupported }
