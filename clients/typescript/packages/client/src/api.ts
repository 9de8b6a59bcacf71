// Made by `npm run generate` from docs/openapi.json: change that, not this.

export interface paths {
    "/v1/auth": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Forward-auth, for reverse proxies and any back end: who is signed in, in headers.
         * @description The copy cannot make it fail: while it cannot be read, the token alone speaks, and the answer has no
         *     `Faircopy-Sequence`.
         */
        get: operations["authenticate"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/live": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Several live queries in one stream. `Last-Event-ID` stands for every `since` that is left out. */
        post: operations["subscribe"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/me": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The caller's own record. */
        get: operations["getMe"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/me/organizations": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The caller's own memberships. */
        get: operations["listMyOrganizations"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/organization": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The active organization. */
        get: operations["getOrganization"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/organization/members": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The members of the active organization, with names. */
        get: operations["listMembers"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/session": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Stores the caller: user, organization and membership are in the copy when this is answered.
         * @description Safe to call on every sign-in: a token that says nothing new writes nothing.
         */
        post: operations["storeSession"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/users/{clerk_user_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A user that the caller is, or shares an organization with. */
        get: operations["getUser"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/workspace": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The active organization's workspace: its owner, its channels and rooms. */
        get: operations["getWorkspace"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description A row of `channels`. */
        Channel: {
            /**
             * Format: date-time
             * @description RFC 3339.
             */
            created_at: string;
            /**
             * @description Of the application's choosing.
             * @example org_29w9IfBrPmcpi0IeBVaKtA7R94W:general
             */
            id: string;
            /**
             * @description `name`.
             * @example general
             */
            name: string;
        };
        /** @description Who is signed in, as the copy knows them. */
        Identity: {
            clerk_org_id: string | null;
            clerk_user_id: string;
            email: string | null;
            /** @description First and last name joined, or the username. In the minimal profile mode as Clerk has it, or else the id. */
            name: string | null;
            /** @description `true` where nobody could say a name and `name` is the user's id: only in the minimal profile mode. Left out otherwise. */
            name_is_id?: boolean;
            permissions: string[];
            role: string | null;
            session_id: string | null;
            slug: string | null;
        };
        /** @description What is to be told in one stream. */
        LiveQueries: {
            /** @description At most 32, each path once. */
            queries: components["schemas"]["LiveQuery"][];
        };
        /** @description A query, and what its reader has of it. */
        LiveQuery: {
            /**
             * @description The path of the `GET`, with its parameters.
             * @example /v1/organization/members?limit=50
             */
            path: string;
            /**
             * Format: int64
             * @description The change number of the value that the reader has: it is sent again only if it may have changed since.
             */
            since?: number | null;
        };
        /**
         * Organization
         * @description A whole row of `organizations`.
         */
        OrganizationRecord: {
            /**
             * @description Its id.
             * @example org_29w9IfBrPmcpi0IeBVaKtA7R94W
             */
            clerk_org_id: string;
            /**
             * Format: date-time
             * @description RFC 3339.
             */
            created_at: string | null;
            /** @description The user who created it. */
            created_by: string | null;
            /** @description `image_url`. */
            image_url: string | null;
            /** @description `null` until a delivery names it, where only a token is known. */
            name: string | null;
            /**
             * @description `webhook`, `api` or `token`.
             * @example webhook
             */
            provenance: string;
            /** @description Its public metadata. */
            settings: Record<string, unknown> | null;
            /** @description `slug`. */
            slug: string | null;
            /**
             * Format: date-time
             * @description RFC 3339.
             */
            updated_at: string | null;
            /** @description The workspace that the public metadata names. */
            workspace_id: string | null;
        };
        /** @description A page of a list. */
        Page_Membership: {
            /** @description In the order of the list. */
            data: {
                /** @description `null` while only a token speaks for it. */
                clerk_membership_id?: string | null;
                /**
                 * @description The organization.
                 * @example org_29w9IfBrPmcpi0IeBVaKtA7R94W
                 */
                clerk_org_id: string;
                /**
                 * @description The user.
                 * @example user_29w83sxmDNGwOuEthce5gg56FcC
                 */
                clerk_user_id: string;
                /**
                 * Format: date-time
                 * @description RFC 3339.
                 */
                created_at?: string | null;
                /** @description The user's address. */
                email?: string | null;
                /** @description The user's, or the organization's. */
                image_url?: string | null;
                /** @description The user's, or the organization's. The user's in the minimal profile mode as Clerk has it, or else the id. */
                name?: string | null;
                /** @description `true` where nobody could say a name and `name` is the user's id: only in the minimal profile mode. Left out otherwise. */
                name_is_id?: boolean;
                /** @description The role's permissions. */
                permissions: string[];
                /**
                 * @description `webhook`, `api` or `token`.
                 * @example webhook
                 */
                provenance: string;
                /**
                 * @description In Clerk's own form: `org:admin`.
                 * @example org:admin
                 */
                role?: string | null;
                /** @description The organization's slug. */
                slug?: string | null;
                /**
                 * Format: date-time
                 * @description RFC 3339.
                 */
                updated_at?: string | null;
            }[];
            /** @description The `after` of the next page; `null` on the last. */
            next: string | null;
        };
        /** @description A user as those see them who share an organization with them. */
        Person: {
            /**
             * @description Who it is.
             * @example user_29w83sxmDNGwOuEthce5gg56FcC
             */
            clerk_user_id: string;
            /**
             * Format: date-time
             * @description RFC 3339.
             */
            created_at: string | null;
            /** @description The primary address, or the first verified one. */
            email: string | null;
            /** @description `first_name`. */
            first_name: string | null;
            /** @description `image_url`. */
            image_url: string | null;
            /** @description `last_name`. */
            last_name: string | null;
            /** @description First and last name joined, or the username. In the minimal profile mode as Clerk has it, or else the id. */
            name: string | null;
            /** @description `true` where nobody could say a name and `name` is the user's id: only in the minimal profile mode. Left out otherwise. */
            name_is_id?: boolean;
            /**
             * Format: date-time
             * @description RFC 3339.
             */
            updated_at: string | null;
            /** @description `username`. */
            username: string | null;
        };
        /** @description One error as the caller sees it. Each `code` has a section in `docs/errors.md`. */
        Problem: {
            /**
             * @description What to branch on.
             * @enum {string}
             */
            code: "admin-disabled" | "body-incomplete" | "body-too-large" | "body-too-slow" | "changes-forgotten" | "clerk-not-configured" | "clerk-unavailable" | "copy-behind" | "copy-stale" | "credentials-ambiguous" | "database-unavailable" | "delivery-erased" | "delivery-not-found" | "destination-not-changed" | "encoding-not-supported" | "foreign-origin" | "internal-error" | "invalid-parameter" | "job-not-changed" | "jwk-kid-mismatch" | "jwk-remote-failed-to-load" | "method-not-allowed" | "no-active-organization" | "no-signing-secret" | "not-found" | "not-permitted" | "overloaded" | "probe-verified" | "record-not-found" | "request-ambiguous" | "sender-not-allowed" | "session-pending" | "sessions-not-configured" | "shutting-down" | "signature-invalid" | "sweep-under-way" | "token-critical-extension" | "token-expired" | "token-iat-in-the-future" | "token-invalid" | "token-invalid-algorithm" | "token-invalid-authorized-parties" | "token-invalid-issuer" | "token-invalid-signature" | "token-lives-too-long" | "token-missing" | "token-not-active-yet" | "token-type-mismatch" | "token-unknown-version" | "token-verification-failed" | "too-many-attempts" | "unauthorized" | "user-deleted";
            /** @description What happened here, in a sentence for people. */
            detail: string;
            /**
             * @description `urn:faircopy:request:` and the request's id, under which the log has it.
             * @example urn:faircopy:request:5f0c2a91d3b84e67
             */
            instance?: string | null;
            /**
             * Format: int32
             * @description The status of the answer.
             */
            status: number;
            /** @description What the code means, in few words. */
            title: string;
            /** @description `urn:faircopy:problem:` and the code. */
            type: string;
        };
        /** @description A row of `rooms`. */
        Room: {
            /**
             * Format: date-time
             * @description RFC 3339.
             */
            created_at: string;
            /**
             * @description Of the application's choosing.
             * @example roadmap
             */
            id: string;
            /**
             * @description `document`, `code`, `whiteboard` or `conference`.
             * @example document
             */
            kind: string;
            /** @description `name`. */
            name: string;
        };
        /** @description Who is signed in, and what the request has brought into the copy. */
        Stored: {
            /** @description Of `user`, `organization`, `membership`: the rows that were not there before. */
            created: string[];
            identity: components["schemas"]["Identity"];
            /** Format: int64 */
            sequence: number;
        };
        /**
         * User
         * @description A whole row of `users`.
         */
        UserRecord: {
            /** @description Whether the user is banned. */
            banned: boolean | null;
            /**
             * @description Whose it is.
             * @example user_29w83sxmDNGwOuEthce5gg56FcC
             */
            clerk_user_id: string;
            /**
             * Format: date-time
             * @description RFC 3339.
             */
            created_at: string | null;
            /** @description The primary address, or the first verified one. */
            email: string | null;
            /** @description The application's own id for the user. */
            external_id: string | null;
            /** @description `first_name`. */
            first_name: string | null;
            /** @description `image_url`. */
            image_url: string | null;
            /** @description `last_name`. */
            last_name: string | null;
            /** @description Whether the user is locked. */
            locked: boolean | null;
            /** @description First and last name joined, or the username. In the minimal profile mode as Clerk has it, or else the id. */
            name: string | null;
            /** @description `true` where nobody could say a name and `name` is the user's id: only in the minimal profile mode. Left out otherwise. */
            name_is_id?: boolean;
            /**
             * @description `webhook`, `api` or `token`.
             * @example webhook
             */
            provenance: string;
            /** @description The user's public metadata. */
            public_metadata: Record<string, unknown> | null;
            /**
             * Format: date-time
             * @description RFC 3339.
             */
            updated_at: string | null;
            /** @description `username`. */
            username: string | null;
            /** @description From the public metadata, or of the oldest membership. */
            workspace_id: string | null;
        };
        /**
         * Workspace
         * @description The workspace of an organization, with what is in it.
         */
        Workspace: {
            /** @description In the order of their creation, at most 1,000. */
            channels: components["schemas"]["Channel"][];
            /** @description There are more. */
            channels_truncated: boolean;
            /**
             * @description The organization that it belongs to. A linked one may be shared by others.
             * @example org_29w9IfBrPmcpi0IeBVaKtA7R94W
             */
            clerk_org_id: string;
            /**
             * Format: date-time
             * @description RFC 3339.
             */
            created_at: string | null;
            /** @description Its id; where no workspace is kept (docs/workspaces.md) the one that the organization's public metadata names. */
            id: string | null;
            /** @description That organization's name. */
            name: string | null;
            /** @description Who created that organization. */
            owner_id: string | null;
            /**
             * @description The caller's: `owner` for whom has the role `org:admin` in the active organization, or else `member`.
             * @example owner
             */
            role: string;
            /** @description In the order of their creation, at most 1,000. */
            rooms: components["schemas"]["Room"][];
            /** @description There are more. */
            rooms_truncated: boolean;
        };
    };
    responses: never;
    parameters: {
        /**
         * @description How many seconds ago `Faircopy-As-Of` may be: else 503 `copy-stale`.
         * @example 3600
         */
        "Faircopy-Max-Staleness": number;
        /**
         * @description The number of a change that the answer must hold: waits for it up to 2 seconds, else 503 `copy-behind`.
         * @example 0
         */
        "Faircopy-Min-Sequence": number;
    };
    requestBodies: never;
    headers: {
        /**
         * @description Up to when the copy is known to be complete, as far as `Faircopy-As-Of-Basis` goes; 1970 where nothing is known.
         * @example 2026-01-31T12:00:00.000Z
         */
        "Faircopy-As-Of": string;
        /**
         * @description What `Faircopy-As-Of` is known from: a comparison with Clerk (`reconciled`), the newest delivery (`delivered`), a read of Clerk of what this answer shows (`read`), or nothing (`none`). See `docs/freshness.md`.
         * @example reconciled
         */
        "Faircopy-As-Of-Basis": "reconciled" | "delivered" | "read" | "none";
        /**
         * @description The number of the last change that the answer holds.
         * @example 42
         */
        "Faircopy-Sequence": number;
        /**
         * @description Seconds after which another attempt is worth it.
         * @example 5
         */
        "Retry-After": number;
        /**
         * @description The scheme, and what was wrong with the token (RFC 6750).
         * @example Bearer error="invalid_token", error_description="token-expired"
         */
        "WWW-Authenticate": string;
    };
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    authenticate: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Signed in. */
            200: {
                headers: {
                    /** @description As elsewhere; absent without the copy. */
                    "Faircopy-As-Of"?: string;
                    /** @description As elsewhere; absent without the copy. */
                    "Faircopy-As-Of-Basis"?: string;
                    /** @description As elsewhere; absent without the copy. */
                    "Faircopy-Sequence"?: string;
                    /** @description The active organization, if they are a member of it. */
                    "X-Auth-Org-Id"?: string;
                    /** @description Their role there, in Clerk's own form. */
                    "X-Auth-Org-Role"?: string;
                    /** @description The user. */
                    "X-Auth-User-Id"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `credentials-ambiguous` */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "credentials-ambiguous";
                    };
                };
            };
            /** @description `jwk-kid-mismatch`, `session-pending`, `token-critical-extension`, `token-expired`, `token-iat-in-the-future`, `token-invalid`, `token-invalid-algorithm`, `token-invalid-authorized-parties`, `token-invalid-issuer`, `token-invalid-signature`, `token-lives-too-long`, `token-missing`, `token-not-active-yet`, `token-type-mismatch`, `token-unknown-version`, `token-verification-failed`, `user-deleted` */
            401: {
                headers: {
                    "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "jwk-kid-mismatch" | "session-pending" | "token-critical-extension" | "token-expired" | "token-iat-in-the-future" | "token-invalid" | "token-invalid-algorithm" | "token-invalid-authorized-parties" | "token-invalid-issuer" | "token-invalid-signature" | "token-lives-too-long" | "token-missing" | "token-not-active-yet" | "token-type-mismatch" | "token-unknown-version" | "token-verification-failed" | "user-deleted";
                    };
                };
            };
            /** @description `jwk-remote-failed-to-load`, `sessions-not-configured` */
            503: {
                headers: {
                    "Retry-After": components["headers"]["Retry-After"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "jwk-remote-failed-to-load" | "sessions-not-configured";
                    };
                };
            };
        };
    };
    subscribe: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description How many seconds ago `Faircopy-As-Of` may be: else 503 `copy-stale`.
                 * @example 3600
                 */
                "Faircopy-Max-Staleness"?: components["parameters"]["Faircopy-Max-Staleness"];
                /**
                 * @description The number of a change that the answer must hold: waits for it up to 2 seconds, else 503 `copy-behind`.
                 * @example 0
                 */
                "Faircopy-Min-Sequence"?: components["parameters"]["Faircopy-Min-Sequence"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["LiveQueries"];
            };
        };
        responses: {
            /** @description Server-sent events `value`, `problem`, `beat` and `end`, without an end. */
            200: {
                headers: {
                    "Faircopy-As-Of": components["headers"]["Faircopy-As-Of"];
                    "Faircopy-As-Of-Basis": components["headers"]["Faircopy-As-Of-Basis"];
                    "Faircopy-Sequence": components["headers"]["Faircopy-Sequence"];
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": string;
                };
            };
        };
    };
    getMe: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description How many seconds ago `Faircopy-As-Of` may be: else 503 `copy-stale`.
                 * @example 3600
                 */
                "Faircopy-Max-Staleness"?: components["parameters"]["Faircopy-Max-Staleness"];
                /**
                 * @description The number of a change that the answer must hold: waits for it up to 2 seconds, else 503 `copy-behind`.
                 * @example 0
                 */
                "Faircopy-Min-Sequence"?: components["parameters"]["Faircopy-Min-Sequence"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The whole row. */
            200: {
                headers: {
                    "Faircopy-As-Of": components["headers"]["Faircopy-As-Of"];
                    "Faircopy-As-Of-Basis": components["headers"]["Faircopy-As-Of-Basis"];
                    "Faircopy-Sequence": components["headers"]["Faircopy-Sequence"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UserRecord"];
                };
            };
            /** @description `credentials-ambiguous`, `invalid-parameter` */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "credentials-ambiguous" | "invalid-parameter";
                    };
                };
            };
            /** @description `jwk-kid-mismatch`, `session-pending`, `token-critical-extension`, `token-expired`, `token-iat-in-the-future`, `token-invalid`, `token-invalid-algorithm`, `token-invalid-authorized-parties`, `token-invalid-issuer`, `token-invalid-signature`, `token-lives-too-long`, `token-missing`, `token-not-active-yet`, `token-type-mismatch`, `token-unknown-version`, `token-verification-failed`, `user-deleted` */
            401: {
                headers: {
                    "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "jwk-kid-mismatch" | "session-pending" | "token-critical-extension" | "token-expired" | "token-iat-in-the-future" | "token-invalid" | "token-invalid-algorithm" | "token-invalid-authorized-parties" | "token-invalid-issuer" | "token-invalid-signature" | "token-lives-too-long" | "token-missing" | "token-not-active-yet" | "token-type-mismatch" | "token-unknown-version" | "token-verification-failed" | "user-deleted";
                    };
                };
            };
            /** @description `record-not-found` */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "record-not-found";
                    };
                };
            };
            /** @description `copy-behind`, `copy-stale`, `database-unavailable`, `jwk-remote-failed-to-load`, `sessions-not-configured` */
            503: {
                headers: {
                    "Retry-After": components["headers"]["Retry-After"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "copy-behind" | "copy-stale" | "database-unavailable" | "jwk-remote-failed-to-load" | "sessions-not-configured";
                    };
                };
            };
        };
    };
    listMyOrganizations: {
        parameters: {
            query?: {
                /** @description The `next` of the page before. */
                after?: string;
                /** @description How many at most. */
                limit?: number;
            };
            header?: {
                /**
                 * @description How many seconds ago `Faircopy-As-Of` may be: else 503 `copy-stale`.
                 * @example 3600
                 */
                "Faircopy-Max-Staleness"?: components["parameters"]["Faircopy-Max-Staleness"];
                /**
                 * @description The number of a change that the answer must hold: waits for it up to 2 seconds, else 503 `copy-behind`.
                 * @example 0
                 */
                "Faircopy-Min-Sequence"?: components["parameters"]["Faircopy-Min-Sequence"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of memberships, with the organizations' names. */
            200: {
                headers: {
                    "Faircopy-As-Of": components["headers"]["Faircopy-As-Of"];
                    "Faircopy-As-Of-Basis": components["headers"]["Faircopy-As-Of-Basis"];
                    "Faircopy-Sequence": components["headers"]["Faircopy-Sequence"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Page_Membership"];
                };
            };
            /** @description `credentials-ambiguous`, `invalid-parameter` */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "credentials-ambiguous" | "invalid-parameter";
                    };
                };
            };
            /** @description `jwk-kid-mismatch`, `session-pending`, `token-critical-extension`, `token-expired`, `token-iat-in-the-future`, `token-invalid`, `token-invalid-algorithm`, `token-invalid-authorized-parties`, `token-invalid-issuer`, `token-invalid-signature`, `token-lives-too-long`, `token-missing`, `token-not-active-yet`, `token-type-mismatch`, `token-unknown-version`, `token-verification-failed`, `user-deleted` */
            401: {
                headers: {
                    "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "jwk-kid-mismatch" | "session-pending" | "token-critical-extension" | "token-expired" | "token-iat-in-the-future" | "token-invalid" | "token-invalid-algorithm" | "token-invalid-authorized-parties" | "token-invalid-issuer" | "token-invalid-signature" | "token-lives-too-long" | "token-missing" | "token-not-active-yet" | "token-type-mismatch" | "token-unknown-version" | "token-verification-failed" | "user-deleted";
                    };
                };
            };
            /** @description `copy-behind`, `copy-stale`, `database-unavailable`, `jwk-remote-failed-to-load`, `sessions-not-configured` */
            503: {
                headers: {
                    "Retry-After": components["headers"]["Retry-After"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "copy-behind" | "copy-stale" | "database-unavailable" | "jwk-remote-failed-to-load" | "sessions-not-configured";
                    };
                };
            };
        };
    };
    getOrganization: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description How many seconds ago `Faircopy-As-Of` may be: else 503 `copy-stale`.
                 * @example 3600
                 */
                "Faircopy-Max-Staleness"?: components["parameters"]["Faircopy-Max-Staleness"];
                /**
                 * @description The number of a change that the answer must hold: waits for it up to 2 seconds, else 503 `copy-behind`.
                 * @example 0
                 */
                "Faircopy-Min-Sequence"?: components["parameters"]["Faircopy-Min-Sequence"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The whole row. */
            200: {
                headers: {
                    "Faircopy-As-Of": components["headers"]["Faircopy-As-Of"];
                    "Faircopy-As-Of-Basis": components["headers"]["Faircopy-As-Of-Basis"];
                    "Faircopy-Sequence": components["headers"]["Faircopy-Sequence"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OrganizationRecord"];
                };
            };
            /** @description `credentials-ambiguous`, `invalid-parameter` */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "credentials-ambiguous" | "invalid-parameter";
                    };
                };
            };
            /** @description `jwk-kid-mismatch`, `session-pending`, `token-critical-extension`, `token-expired`, `token-iat-in-the-future`, `token-invalid`, `token-invalid-algorithm`, `token-invalid-authorized-parties`, `token-invalid-issuer`, `token-invalid-signature`, `token-lives-too-long`, `token-missing`, `token-not-active-yet`, `token-type-mismatch`, `token-unknown-version`, `token-verification-failed`, `user-deleted` */
            401: {
                headers: {
                    "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "jwk-kid-mismatch" | "session-pending" | "token-critical-extension" | "token-expired" | "token-iat-in-the-future" | "token-invalid" | "token-invalid-algorithm" | "token-invalid-authorized-parties" | "token-invalid-issuer" | "token-invalid-signature" | "token-lives-too-long" | "token-missing" | "token-not-active-yet" | "token-type-mismatch" | "token-unknown-version" | "token-verification-failed" | "user-deleted";
                    };
                };
            };
            /** @description `no-active-organization`, `record-not-found` */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "no-active-organization" | "record-not-found";
                    };
                };
            };
            /** @description `copy-behind`, `copy-stale`, `database-unavailable`, `jwk-remote-failed-to-load`, `sessions-not-configured` */
            503: {
                headers: {
                    "Retry-After": components["headers"]["Retry-After"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "copy-behind" | "copy-stale" | "database-unavailable" | "jwk-remote-failed-to-load" | "sessions-not-configured";
                    };
                };
            };
        };
    };
    listMembers: {
        parameters: {
            query?: {
                /** @description The `next` of the page before. */
                after?: string;
                /** @description How many at most. */
                limit?: number;
            };
            header?: {
                /**
                 * @description How many seconds ago `Faircopy-As-Of` may be: else 503 `copy-stale`.
                 * @example 3600
                 */
                "Faircopy-Max-Staleness"?: components["parameters"]["Faircopy-Max-Staleness"];
                /**
                 * @description The number of a change that the answer must hold: waits for it up to 2 seconds, else 503 `copy-behind`.
                 * @example 0
                 */
                "Faircopy-Min-Sequence"?: components["parameters"]["Faircopy-Min-Sequence"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of members. */
            200: {
                headers: {
                    "Faircopy-As-Of": components["headers"]["Faircopy-As-Of"];
                    "Faircopy-As-Of-Basis": components["headers"]["Faircopy-As-Of-Basis"];
                    "Faircopy-Sequence": components["headers"]["Faircopy-Sequence"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Page_Membership"];
                };
            };
            /** @description `credentials-ambiguous`, `invalid-parameter` */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "credentials-ambiguous" | "invalid-parameter";
                    };
                };
            };
            /** @description `jwk-kid-mismatch`, `session-pending`, `token-critical-extension`, `token-expired`, `token-iat-in-the-future`, `token-invalid`, `token-invalid-algorithm`, `token-invalid-authorized-parties`, `token-invalid-issuer`, `token-invalid-signature`, `token-lives-too-long`, `token-missing`, `token-not-active-yet`, `token-type-mismatch`, `token-unknown-version`, `token-verification-failed`, `user-deleted` */
            401: {
                headers: {
                    "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "jwk-kid-mismatch" | "session-pending" | "token-critical-extension" | "token-expired" | "token-iat-in-the-future" | "token-invalid" | "token-invalid-algorithm" | "token-invalid-authorized-parties" | "token-invalid-issuer" | "token-invalid-signature" | "token-lives-too-long" | "token-missing" | "token-not-active-yet" | "token-type-mismatch" | "token-unknown-version" | "token-verification-failed" | "user-deleted";
                    };
                };
            };
            /** @description `no-active-organization`, `record-not-found` */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "no-active-organization" | "record-not-found";
                    };
                };
            };
            /** @description `copy-behind`, `copy-stale`, `database-unavailable`, `jwk-remote-failed-to-load`, `sessions-not-configured` */
            503: {
                headers: {
                    "Retry-After": components["headers"]["Retry-After"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "copy-behind" | "copy-stale" | "database-unavailable" | "jwk-remote-failed-to-load" | "sessions-not-configured";
                    };
                };
            };
        };
    };
    storeSession: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description How many seconds ago `Faircopy-As-Of` may be: else 503 `copy-stale`.
                 * @example 3600
                 */
                "Faircopy-Max-Staleness"?: components["parameters"]["Faircopy-Max-Staleness"];
                /**
                 * @description The number of a change that the answer must hold: waits for it up to 2 seconds, else 503 `copy-behind`.
                 * @example 0
                 */
                "Faircopy-Min-Sequence"?: components["parameters"]["Faircopy-Min-Sequence"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The caller is in the copy. */
            200: {
                headers: {
                    "Faircopy-As-Of": components["headers"]["Faircopy-As-Of"];
                    "Faircopy-As-Of-Basis": components["headers"]["Faircopy-As-Of-Basis"];
                    "Faircopy-Sequence": components["headers"]["Faircopy-Sequence"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Stored"];
                };
            };
            /** @description `credentials-ambiguous`, `invalid-parameter` */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "credentials-ambiguous" | "invalid-parameter";
                    };
                };
            };
            /** @description `jwk-kid-mismatch`, `session-pending`, `token-critical-extension`, `token-expired`, `token-iat-in-the-future`, `token-invalid`, `token-invalid-algorithm`, `token-invalid-authorized-parties`, `token-invalid-issuer`, `token-invalid-signature`, `token-lives-too-long`, `token-missing`, `token-not-active-yet`, `token-type-mismatch`, `token-unknown-version`, `token-verification-failed`, `user-deleted` */
            401: {
                headers: {
                    "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "jwk-kid-mismatch" | "session-pending" | "token-critical-extension" | "token-expired" | "token-iat-in-the-future" | "token-invalid" | "token-invalid-algorithm" | "token-invalid-authorized-parties" | "token-invalid-issuer" | "token-invalid-signature" | "token-lives-too-long" | "token-missing" | "token-not-active-yet" | "token-type-mismatch" | "token-unknown-version" | "token-verification-failed" | "user-deleted";
                    };
                };
            };
            /** @description `copy-behind`, `copy-stale`, `database-unavailable`, `jwk-remote-failed-to-load`, `overloaded`, `sessions-not-configured`, `shutting-down` */
            503: {
                headers: {
                    "Retry-After": components["headers"]["Retry-After"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "copy-behind" | "copy-stale" | "database-unavailable" | "jwk-remote-failed-to-load" | "overloaded" | "sessions-not-configured" | "shutting-down";
                    };
                };
            };
        };
    };
    getUser: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description How many seconds ago `Faircopy-As-Of` may be: else 503 `copy-stale`.
                 * @example 3600
                 */
                "Faircopy-Max-Staleness"?: components["parameters"]["Faircopy-Max-Staleness"];
                /**
                 * @description The number of a change that the answer must hold: waits for it up to 2 seconds, else 503 `copy-behind`.
                 * @example 0
                 */
                "Faircopy-Min-Sequence"?: components["parameters"]["Faircopy-Min-Sequence"];
            };
            path: {
                /**
                 * @description The user's id.
                 * @example user_29w83sxmDNGwOuEthce5gg56FcC
                 */
                clerk_user_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The user, as their colleagues see them. */
            200: {
                headers: {
                    "Faircopy-As-Of": components["headers"]["Faircopy-As-Of"];
                    "Faircopy-As-Of-Basis": components["headers"]["Faircopy-As-Of-Basis"];
                    "Faircopy-Sequence": components["headers"]["Faircopy-Sequence"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Person"];
                };
            };
            /** @description `credentials-ambiguous`, `invalid-parameter` */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "credentials-ambiguous" | "invalid-parameter";
                    };
                };
            };
            /** @description `jwk-kid-mismatch`, `session-pending`, `token-critical-extension`, `token-expired`, `token-iat-in-the-future`, `token-invalid`, `token-invalid-algorithm`, `token-invalid-authorized-parties`, `token-invalid-issuer`, `token-invalid-signature`, `token-lives-too-long`, `token-missing`, `token-not-active-yet`, `token-type-mismatch`, `token-unknown-version`, `token-verification-failed`, `user-deleted` */
            401: {
                headers: {
                    "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "jwk-kid-mismatch" | "session-pending" | "token-critical-extension" | "token-expired" | "token-iat-in-the-future" | "token-invalid" | "token-invalid-algorithm" | "token-invalid-authorized-parties" | "token-invalid-issuer" | "token-invalid-signature" | "token-lives-too-long" | "token-missing" | "token-not-active-yet" | "token-type-mismatch" | "token-unknown-version" | "token-verification-failed" | "user-deleted";
                    };
                };
            };
            /** @description `record-not-found` */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "record-not-found";
                    };
                };
            };
            /** @description `copy-behind`, `copy-stale`, `database-unavailable`, `jwk-remote-failed-to-load`, `sessions-not-configured` */
            503: {
                headers: {
                    "Retry-After": components["headers"]["Retry-After"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "copy-behind" | "copy-stale" | "database-unavailable" | "jwk-remote-failed-to-load" | "sessions-not-configured";
                    };
                };
            };
        };
    };
    getWorkspace: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description How many seconds ago `Faircopy-As-Of` may be: else 503 `copy-stale`.
                 * @example 3600
                 */
                "Faircopy-Max-Staleness"?: components["parameters"]["Faircopy-Max-Staleness"];
                /**
                 * @description The number of a change that the answer must hold: waits for it up to 2 seconds, else 503 `copy-behind`.
                 * @example 0
                 */
                "Faircopy-Min-Sequence"?: components["parameters"]["Faircopy-Min-Sequence"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The workspace. */
            200: {
                headers: {
                    "Faircopy-As-Of": components["headers"]["Faircopy-As-Of"];
                    "Faircopy-As-Of-Basis": components["headers"]["Faircopy-As-Of-Basis"];
                    "Faircopy-Sequence": components["headers"]["Faircopy-Sequence"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Workspace"];
                };
            };
            /** @description `credentials-ambiguous`, `invalid-parameter` */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "credentials-ambiguous" | "invalid-parameter";
                    };
                };
            };
            /** @description `jwk-kid-mismatch`, `session-pending`, `token-critical-extension`, `token-expired`, `token-iat-in-the-future`, `token-invalid`, `token-invalid-algorithm`, `token-invalid-authorized-parties`, `token-invalid-issuer`, `token-invalid-signature`, `token-lives-too-long`, `token-missing`, `token-not-active-yet`, `token-type-mismatch`, `token-unknown-version`, `token-verification-failed`, `user-deleted` */
            401: {
                headers: {
                    "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "jwk-kid-mismatch" | "session-pending" | "token-critical-extension" | "token-expired" | "token-iat-in-the-future" | "token-invalid" | "token-invalid-algorithm" | "token-invalid-authorized-parties" | "token-invalid-issuer" | "token-invalid-signature" | "token-lives-too-long" | "token-missing" | "token-not-active-yet" | "token-type-mismatch" | "token-unknown-version" | "token-verification-failed" | "user-deleted";
                    };
                };
            };
            /** @description `no-active-organization`, `record-not-found` */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "no-active-organization" | "record-not-found";
                    };
                };
            };
            /** @description `copy-behind`, `copy-stale`, `database-unavailable`, `jwk-remote-failed-to-load`, `sessions-not-configured` */
            503: {
                headers: {
                    "Retry-After": components["headers"]["Retry-After"];
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"] & {
                        /** @enum {unknown} */
                        code?: "copy-behind" | "copy-stale" | "database-unavailable" | "jwk-remote-failed-to-load" | "sessions-not-configured";
                    };
                };
            };
        };
    };
}
