/** The tables as queries see them. Times are epoch milliseconds; booleans are 0 or 1, which every engine has. */
export type Schema = {
  users: { id: string; username: string; username_key: string; created_at: number; disabled_at: number | null; is_demo: number };
  credentials: { user_id: string; kind: string; secret_hash: string; version: number; changed_at: number };
  sessions: {
    id: string;
    user_id: string;
    created_at: number;
    authenticated_at: number;
    expires_at: number;
    last_used_at: number;
    generation: number;
    current_hash: string;
    previous_hash: string | null;
    rotated_at: number | null;
    successor_seal: string | null;
    access_until: number;
    ended_at: number | null;
    ended_because: string | null;
    address: string;
    user_agent: string;
  };
  keys: {
    kid: string;
    alg: string;
    origin: string;
    created_at: number;
    active_from: number;
    public_jwk: string | null;
    sealed_private_jwk: string;
    compromised_at: number | null;
  };
  /** Numbers that say that something has changed, by name. */
  marks: { name: string; value: number };
  instances: { id: string; seen_at: number; keys_version: number };
  leases: { name: string; holder: string; until: number };
  audit: {
    id: string;
    at: number;
    action: string;
    by: string;
    user_id: string | null;
    username: string | null;
    session_id: string | null;
    address: string | null;
    request_id: string | null;
    reason: string | null;
    count: number;
  };
  guesses: { key: string; times: string; keep_until: number };
};
