"""The Flask app that Portcullis began as, with its logged-out tokens and its counters in Redis, so that more than one process can serve it."""

import os
from datetime import timedelta
from hashlib import scrypt
from hmac import compare_digest

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask import Flask, jsonify, request
from flask_cors import CORS
from flask_jwt_extended import JWTManager, create_access_token, get_jwt, get_jwt_identity, jwt_required
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_talisman import Talisman
from redis import Redis

REDIS = os.environ["PEER_REDIS"]
LIFE = timedelta(minutes=15)

app = Flask(__name__)
app.config["JWT_ACCESS_TOKEN_EXPIRES"] = LIFE
if os.environ["PEER_SIGNING"] == "HS256":
    app.config["JWT_SECRET_KEY"] = os.urandom(32).hex()
else:
    key = Ed25519PrivateKey.generate()
    app.config["JWT_ALGORITHM"] = "EdDSA"
    app.config["JWT_PRIVATE_KEY"] = key
    app.config["JWT_PUBLIC_KEY"] = key.public_key()

Talisman(app)
CORS(app, origins="https://your-frontend.com")
jwt = JWTManager(app)
Limiter(get_remote_address, app=app, default_limits=["1000000000 per hour"], storage_uri=REDIS)
redis = Redis.from_url(REDIS)

salt = os.urandom(16)
hashed = lambda password: scrypt(password.encode(), salt=salt, n=16384, r=8, p=1)
password_hash = hashed("password123")


@jwt.token_in_blocklist_loader
def is_revoked(_header, claims):
    return redis.get("revoked:" + claims["jti"]) is not None


@app.post("/login")
def login():
    body = request.get_json()
    if body.get("username") != "testuser" or not compare_digest(hashed(str(body.get("password"))), password_hash):
        return jsonify(msg="Invalid credentials"), 401
    return jsonify(access_token=create_access_token(identity="testuser"))


@app.get("/protected")
@jwt_required()
def protected():
    return jsonify(logged_in_as=get_jwt_identity())


@app.post("/logout")
@jwt_required()
def logout():
    redis.set("revoked:" + get_jwt()["jti"], "", ex=LIFE)
    return jsonify(msg="Successfully logged out")
