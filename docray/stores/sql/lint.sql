-- name: tables_without_tenant
-- A table whose rows belong to nobody.
SELECT format('table %s has no column tenant_id uuid NOT NULL', c.oid::regclass)
  FROM pg_class c
 WHERE c.relnamespace = 'docray'::regnamespace AND c.relkind IN ('r', 'p', 'f')
   AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND a.atttypid = 'uuid'::regtype AND a.attnotnull);

-- name: tables_without_force
-- A table whose owner, or everybody, sees all tenants.
SELECT format('table %s lacks ENABLE and FORCE ROW LEVEL SECURITY', c.oid::regclass)
  FROM pg_class c
 WHERE c.relnamespace = 'docray'::regnamespace AND c.relkind IN ('r', 'p', 'f') AND NOT (c.relrowsecurity AND c.relforcerowsecurity);

-- name: tables_without_the_policy
-- A table with no policy, another one, or a second one: policies are OR-ed.
SELECT format('table %s has not exactly the one policy for ALL to PUBLIC on the transaction''s tenant', c.oid::regclass)
  FROM pg_class c
 WHERE c.relnamespace = 'docray'::regnamespace AND c.relkind IN ('r', 'p', 'f')
   AND 1 IS DISTINCT FROM (
        SELECT count(*) FILTER (WHERE p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}'
                                  AND pg_get_expr(p.polqual, p.polrelid) = $1 AND pg_get_expr(p.polwithcheck, p.polrelid) = $1)
               + 10 * count(*) - 10
          FROM pg_policy p WHERE p.polrelid = c.oid);

-- name: unique_across_tenants
-- A unique index that tells one tenant of another's rows.
SELECT format('unique index %s does not begin with tenant_id', i.indexrelid::regclass)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
 WHERE c.relnamespace = 'docray'::regnamespace AND i.indisunique
   AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = i.indkey[0] AND a.attname = 'tenant_id');

-- name: references_across_tenants
-- A foreign key by which a row of one tenant could point to another's.
SELECT format('foreign key %s of %s does not begin with tenant_id on both sides', k.conname, k.conrelid::regclass)
  FROM pg_constraint k
 WHERE k.connamespace = 'docray'::regnamespace AND k.contype = 'f'
   AND NOT (EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1] AND a.attname = 'tenant_id')
        AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.confrelid AND a.attnum = k.confkey[1] AND a.attname = 'tenant_id'));

-- name: materialized_views
-- A materialized view holds every tenant's rows, whatever the policies say.
SELECT format('materialized view %s ignores row-level security', c.oid::regclass)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'm' AND n.nspname NOT IN ('pg_catalog', 'information_schema');

-- name: views_of_their_owner
-- A view that reads with its owner's rights, directly or through other views.
WITH RECURSIVE reading (view) AS (
    SELECT r.ev_class FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
      JOIN pg_class t ON t.oid = d.refobjid
     WHERE d.refclassid = 'pg_class'::regclass AND t.relnamespace = 'docray'::regnamespace
     UNION
    SELECT r.ev_class FROM reading v JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = v.view
      JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
)
SELECT format('view %s is not security_invoker', c.oid::regclass)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'v' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND c.oid IN (SELECT view FROM reading)
   AND NOT EXISTS (SELECT FROM unnest(c.reloptions) o WHERE o IN ('security_invoker=true', 'security_invoker=on', 'security_invoker=1'));

-- name: tenants_by_default
-- A setting by which a transaction of no tenant would have one.
SELECT format('app.tenant_id is preset for %s', CASE WHEN s.setrole = 0 THEN 'every role' ELSE 'role ' || s.setrole::regrole::text END)
  FROM pg_db_role_setting s
 WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
   AND EXISTS (SELECT FROM unnest(s.setconfig) c WHERE c LIKE 'app.tenant\_id=%')
 UNION ALL
SELECT 'app.tenant_id is preset for this session' WHERE NULLIF(current_setting('app.tenant_id', true), '') IS NOT NULL;

-- name: strong_roles
-- A role of the application, or the one that is connected, that stands above row-level security.
SELECT format('role %s is superuser, BYPASSRLS, CREATEROLE, CREATEDB or REPLICATION', r.rolname)
  FROM pg_roles r
 WHERE (r.rolname IN ('docray_app', 'docray_worker') OR r.rolname IN (current_user, session_user))
   AND (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication);

-- name: roles_in_roles
-- A role of the application that may become another.
SELECT format('role %s is a member of %s', m.member::regrole, m.roleid::regrole)
  FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
 WHERE r.rolname IN ('docray_app', 'docray_worker') OR r.rolname IN (current_user, session_user);

-- name: owning_roles
-- A role of the application that owns something, and so could switch its policies off.
SELECT format('role %s owns %s', c.relowner::regrole, c.oid::regclass)
  FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
 WHERE c.relnamespace = 'docray'::regnamespace AND (r.rolname IN ('docray_app', 'docray_worker', 'docray_maint') OR r.rolname IN (current_user, session_user));

-- name: dangerous_rights
-- Rights that row-level security does not hold back: TRUNCATE, REFERENCES, TRIGGER.
SELECT format('role %s has %s on %s', r.rolname, privilege, c.oid::regclass)
  FROM pg_class c
 CROSS JOIN (SELECT rolname FROM pg_roles WHERE rolname IN ('docray_app', 'docray_worker') UNION SELECT current_user) r
 CROSS JOIN unnest(ARRAY['TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
 WHERE c.relnamespace = 'docray'::regnamespace AND c.relkind IN ('r', 'p', 'f', 'v') AND has_table_privilege(r.rolname, c.oid, privilege);

-- name: changeable_audit
-- The audit log and usage are only ever added to.
SELECT format('role %s has %s on %s', r.rolname, privilege, c.oid::regclass)
  FROM pg_class c
 CROSS JOIN (SELECT rolname FROM pg_roles WHERE rolname IN ('docray_app', 'docray_worker')) r
 CROSS JOIN unnest(ARRAY['UPDATE', 'DELETE']) AS privilege
 WHERE c.relnamespace = 'docray'::regnamespace AND (c.relname LIKE 'audit\_log%' OR c.relname = 'usage' OR c.relname LIKE 'usage\_%')
   AND c.relkind IN ('r', 'p') AND has_table_privilege(r.rolname, c.oid, privilege);

-- name: rights_to_create
-- A role of the application that could put a table, function or type of its own in the way.
SELECT format('role %s may create in schema %s', r.rolname, n.nspname)
  FROM pg_namespace n
 CROSS JOIN (SELECT rolname FROM pg_roles WHERE rolname IN ('docray_app', 'docray_worker', 'docray_maint') UNION SELECT current_user) r
 WHERE n.nspname IN ('docray', 'docray_migrations', 'public') AND has_schema_privilege(r.rolname, n.oid, 'CREATE');

-- name: owners_that_log_in
-- The owners are nobody's login; the tables' owner is under row-level security itself.
SELECT format('role %s may log in, or has rights beyond its part', r.rolname)
  FROM pg_roles r
 WHERE r.rolname IN ('docray_owner', 'docray_maint')
   AND (r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR (r.rolname = 'docray_owner' AND r.rolbypassrls));

-- name: open_functions
-- A function that runs with its owner's rights: owned by docray_maint (or by the tables' owner, to make partitions), with a fixed
-- search path that begins with pg_catalog and ends with pg_temp, and granted by name.
SELECT format('function %s is SECURITY DEFINER and %s', f.oid::regprocedure,
              CASE WHEN o.rolname NOT IN ('docray_maint', 'docray_owner') THEN 'belongs to ' || o.rolname
                   WHEN NOT EXISTS (SELECT FROM unnest(f.proconfig) s WHERE s LIKE 'search\_path=pg\_catalog, %pg\_temp') THEN 'has no fixed search path'
                   ELSE 'may be executed by PUBLIC' END)
  FROM pg_proc f JOIN pg_roles o ON o.oid = f.proowner
 WHERE f.pronamespace = 'docray'::regnamespace AND f.prosecdef
   AND (o.rolname NOT IN ('docray_maint', 'docray_owner')
        OR NOT EXISTS (SELECT FROM unnest(f.proconfig) s WHERE s LIKE 'search\_path=pg\_catalog, %pg\_temp')
        OR f.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(f.proacl) a WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE'));

-- name: no_schema
-- A database that was never migrated.
SELECT 'there is no schema docray: run the migrations' WHERE to_regnamespace('docray') IS NULL;
