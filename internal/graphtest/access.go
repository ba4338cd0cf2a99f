package graphtest

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// role is the permission that the operation needs, empty for none. An application may list and delete its own
// subscriptions without a permission: https://learn.microsoft.com/graph/api/subscription-list
func (o Operation) role() string {
	switch o {
	case OpCreate, OpRenew, OpReauthorize, OpHistory:
		return RoleReadAll
	case OpUsers:
		return RoleUsersReadAll
	default:
		return ""
	}
}

// authorize checks the access token of a Graph call and the roles in it.
func (e *Emulator) authorize(r *http.Request, op Operation) *graphError {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return &graphError{http.StatusUnauthorized, "InvalidAuthenticationToken", "Access token is empty."}
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return e.access.key, nil },
		jwt.WithValidMethods([]string{"HS256"}),
		jwt.WithAudience(e.base(r)),
		jwt.WithExpirationRequired(),
	)
	if err == nil && !e.access.counts(claims) {
		err = jwt.ErrTokenExpired
	}
	if err != nil {
		return &graphError{http.StatusUnauthorized, "InvalidAuthenticationToken", accessRefused(err)}
	}
	roles, _ := claims["roles"].([]any)
	role := op.role()
	switch {
	case role == "" || slices.Contains(roles, any(role)):
		return nil
	case op == OpUsers:
		return &graphError{http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation."}
	default:
		return &graphError{http.StatusForbidden, "Forbidden", "Missing role permissions on the request. " +
			"API requires one of '" + role + "'. Roles on the request ''."}
	}
}

func (a *accessTokens) counts(claims jwt.MapClaims) bool {
	_, current := a.now()
	generation, ok := claims[claimGeneration].(float64)
	return ok && int(generation) == current
}

func accessRefused(err error) string {
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "Lifetime validation failed, the token is expired."
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return "Access token validation failure. Invalid audience."
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "IDX14100: JWT is not well formed, there are no dots (.)."
	default:
		return "Access token validation failure. Invalid signature."
	}
}
