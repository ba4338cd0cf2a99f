// Package graphtest is an emulator of Microsoft Graph and Entra ID for tests and demonstrations: tokens, subscriptions to Microsoft 365
// Copilot interactions, their encrypted and signed notifications, and the history of interactions.
//
// It keeps the documented rules to the letter, and where Graph is unpredictable it is the harsher of the two. It shares no code with
// the receiver, so what it seals and signs is an independent check of what the receiver opens and verifies.
//
//	emulator := graphtest.New(graphtest.Settings{TenantID: tenant, ClientID: client, ClientSecret: secret, RootCAs: roots})
//	defer emulator.Close()
//	url, err := emulator.Start("")                      // both the Graph endpoint and the authority, plain HTTP on loopback
//	...
//	sub, err := emulator.WaitSubscribed(ctx)            // until the client under test has created its subscription
//	n, err := emulator.Publish(ctx, graphtest.Created(prompt, response)...)
//	err = emulator.WaitDelivered(ctx, n)                // until 2xx came for n items in all
//
// # Time
//
// The zero Settings has the times of Graph: 45 minutes at least and 4,320 at most for a subscription, 3 s for a first answer, 10 s for
// later ones, retries for 4 h. Each is a field, so that a test can make it milliseconds: MinLifetime, MaxLifetime, FirstTimeout,
// RetryTimeout, RetryDelay, RetryFor, AccessTokenLifetime, AuthorizationLifetime. GET /subscriptions is limited to 25 in 20 s; a test
// with a fast loop sets NoListLimit. The history is limited to 30 requests a second; a test that asks faster sets HistoryLimit.
//
// # History and directory
//
// What was published is in the history of its user, delivered or not, deleted or not: Lost names what is nowhere else. AddHistory
// puts more there. The directory lists the users that SetUsers names, else those who conversed, to holders of RoleUsersReadAll.
//
// # What happened
//
// Stats, Requests, HistoryRequests, Acknowledgements, Lost, Violations and Subscriptions tell; Wait, WaitSubscribed, WaitDelivered,
// WaitIdle and WaitRequests block until it has.
//
// # What goes wrong
//
//	emulator.Fail(graphtest.OpCreate, graphtest.Fault{Status: 429, RetryAfter: "2", Times: 3})
//	emulator.Fail(graphtest.AnyGraph, graphtest.Fault{Reset: true})     // until emulator.Heal()
//	emulator.SetDeliveryFaults(graphtest.DeliveryFaults{Duplicate: 0.2, Reorder: 0.5})
//	emulator.SendLifecycle(ctx, graphtest.ReauthorizationRequired)
//	emulator.RemoveSubscription(ctx, id, false)
//	emulator.ExpireSubscription(id, time.Now())
//	emulator.ExpireAuthorization(id)                                    // pauses until PATCH or reauthorize
//	emulator.SetUnlicensed(user)                                        // HistoryLimit and HistoryLag are Settings
//	emulator.SetRoles(); emulator.RevokeTokens(); emulator.RotateKeys(); emulator.SendNullTokens(true)
//
// # What a forger sends
//
// Collection makes an authentic notification to change before Post sends it; Token changes the claims of a signed validation token;
// SignWith signs with any key and method; Seal encrypts for any certificate; PostRaw and PostTo send any bytes.
//
//	c, err := emulator.Collection(graphtest.Created(prompt)...)
//	c.Value[0].ClientState = "guessed"
//	c.ValidationTokens = []string{emulator.Token(func(claims map[string]any) { claims["aud"] = "another application" })}
//	status, err := emulator.Post(ctx, c)
//
// # What a tenant looks like
//
// Turns invents a stream of prompts and answers of many apps and users, the same for the same seed.
// ServerCertificate makes a certificate for a notification endpoint on loopback.
package graphtest
