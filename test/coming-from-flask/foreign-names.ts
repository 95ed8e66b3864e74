/** What the five libraries let one set, by the section of the page that answers it. */
export const foreign: Readonly<Record<string, readonly string[]>> = {
  'flask-jwt-extended': [
    ...withPrefix(
      'JWT_',
      `ACCESS_TOKEN_EXPIRES REFRESH_TOKEN_EXPIRES ALGORITHM DECODE_ALGORITHMS SECRET_KEY PRIVATE_KEY PUBLIC_KEY DECODE_AUDIENCE
       ENCODE_AUDIENCE DECODE_ISSUER ENCODE_ISSUER DECODE_LEEWAY ENCODE_NBF IDENTITY_CLAIM VERIFY_SUB ERROR_MESSAGE_KEY TOKEN_LOCATION
       HEADER_NAME HEADER_TYPE QUERY_STRING_NAME QUERY_STRING_VALUE_PREFIX JSON_KEY REFRESH_JSON_KEY ACCESS_COOKIE_NAME
       REFRESH_COOKIE_NAME ACCESS_COOKIE_PATH REFRESH_COOKIE_PATH COOKIE_DOMAIN COOKIE_SAMESITE COOKIE_SECURE SESSION_COOKIE
       COOKIE_CSRF_PROTECT CSRF_IN_COOKIES CSRF_METHODS CSRF_CHECK_FORM ACCESS_CSRF_COOKIE_NAME REFRESH_CSRF_COOKIE_NAME
       ACCESS_CSRF_COOKIE_PATH REFRESH_CSRF_COOKIE_PATH ACCESS_CSRF_HEADER_NAME REFRESH_CSRF_HEADER_NAME ACCESS_CSRF_FIELD_NAME
       REFRESH_CSRF_FIELD_NAME`,
    ),
    ...words('fresh type jti iat nbf exp iss aud csrf'),
    ...words(
      `additional_claims_loader additional_headers_loader user_identity_loader encode_key_loader decode_key_loader
       token_in_blocklist_loader token_verification_loader user_lookup_loader expired_token_loader revoked_token_loader
       needs_fresh_token_loader token_verification_failed_loader user_lookup_error_loader unauthorized_loader invalid_token_loader`,
    ),
    ...words(
      `jwt_required optional fresh refresh locations verify_type skip_revocation_check verify_jwt_in_request create_access_token
       create_refresh_token expires_delta additional_claims decode_token get_jwt get_jwt_header get_jwt_identity
       get_jwt_request_location get_unverified_jwt_headers get_jti get_csrf_token current_user get_current_user set_access_cookies
       set_refresh_cookies unset_jwt_cookies unset_access_cookies unset_refresh_cookies add_context_processor`,
    ),
  ],
  'Flask-Limiter': [
    ...withPrefix(
      'RATELIMIT_',
      `ENABLED KEY_FUNC KEY_PREFIX REQUEST_IDENTIFIER DEFAULT DEFAULTS_PER_METHOD DEFAULTS_EXEMPT_WHEN DEFAULTS_DEDUCT_WHEN
       DEFAULTS_COST APPLICATION APPLICATION_PER_METHOD APPLICATION_EXEMPT_WHEN APPLICATION_DEDUCT_WHEN APPLICATION_COST META
       ON_META_BREACH_CALLBACK STRATEGY STORAGE_URI STORAGE_OPTIONS SWALLOW_ERRORS IN_MEMORY_FALLBACK_ENABLED IN_MEMORY_FALLBACK
       FAIL_ON_FIRST_BREACH ON_BREACH_CALLBACK HEADERS_ENABLED HEADER_LIMIT HEADER_REMAINING HEADER_RESET HEADER_RETRY_AFTER
       HEADER_RETRY_AFTER_VALUE`,
    ),
    ...words(
      `limit_value key_func per_method methods error_message exempt_when override_defaults deduct_when on_breach cost scope
       meta_limits shared_limit exempt request_filter current_limit current_limits get_remote_address`,
    ),
  ],
  'flask-cors': words(
    `origins methods allow_headers expose_headers supports_credentials max_age send_wildcard vary_header automatic_options
     resources intercept_exceptions always_send allow_private_network cross_origin`,
  ),
  'Flask-WTF': [
    ...withPrefix('WTF_CSRF_', 'ENABLED CHECK_DEFAULT METHODS FIELD_NAME HEADERS META_NAME TIME_LIMIT SSL_STRICT SECRET_KEY'),
    'csrf.exempt',
  ],
  Talisman: words(
    `force_https force_https_permanent frame_options frame_options_allow_from strict_transport_security
     strict_transport_security_max_age strict_transport_security_include_subdomains strict_transport_security_preload
     content_security_policy content_security_policy_report_uri content_security_policy_report_only content_security_policy_nonce_in
     referrer_policy permissions_policy document_policy feature_policy session_cookie_secure session_cookie_http_only
     session_cookie_samesite force_file_save x_content_type_options x_xss_protection`,
  ),
};

/** What a client of theirs may have met. */
export const foreignErrors: Readonly<Record<string, readonly string[]>> = {
  'flask-jwt-extended': [
    '401 Missing Authorization Header',
    "401 Missing 'Bearer' type in 'Authorization' header",
    '422 Bad Authorization header',
    '401 Missing cookie',
    "401 Missing 'jwt' query paramater", // theirs
    "422 Invalid value for query parameter 'jwt'",
    '401 Invalid content-type. Must be application/json.',
    '401 Missing "access_token" key in json data.',
    '401 Missing JWT in headers, cookies or json',
    '401 Missing CSRF token',
    '401 CSRF double submit tokens do not match',
    'Missing claim: csrf',
    'Missing claim: sub',
    '401 Token has expired',
    '401 Token has been revoked',
    '401 Fresh token required',
    '401 Error loading the user',
    '400 User claims verification failed',
    '422 Only refresh tokens are allowed',
    '422 Only non-refresh tokens are allowed',
    'Signature verification failed',
    'Not enough segments',
    'Invalid header padding',
    'Invalid payload string',
    'The specified alg value is not allowed',
    'Algorithm not supported',
    'The token is not yet valid',
    'Invalid audience',
    "Audience doesn't match",
    'Invalid issuer',
    'Subject must be a string',
    'Token is missing the "aud" claim',
    '500 RuntimeError',
  ],
  'Flask-WTF': [
    'The CSRF token is missing.',
    'The CSRF session token is missing.',
    'The CSRF token has expired.',
    'The CSRF token is invalid.',
    'The CSRF tokens do not match.',
    'The referrer header is missing.',
    'The referrer does not match the host.',
  ],
};

function words(text: string): string[] {
  return text.trim().split(/\s+/);
}

function withPrefix(prefix: string, text: string): string[] {
  return words(text).map((word) => prefix + word);
}
